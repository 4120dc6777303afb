"""Finds the credentials for a registry in the configuration files of Helm and Docker, and in credential helpers.

Credentials are read only when the user's own registry requires them, never for MAR.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..document import Json, parse_json
from ..errors import Error
from ..files import find_program
from ..reference import Host
from ..text import printable

_HELPER_TIME = 10.0  # seconds
_MAX_TOKEN: Final = 32 << 10
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_API_PATHS: Final = ("v1/", "v2/")
_NOT_FOUND: Final = b"credentials not found"
"""What every credential helper prints if it has no credentials for a registry (docker-credential-helpers, `credentials/error.go`)."""


class Credentials(NamedTuple):
    """A password, an identity token, or neither. Do not log this object: its repr contains the secrets.

    `az acr login` stores an identity token. The realm exchanges an identity token for an access token (distribution, "OAuth2 token
    authentication").

    Attributes:
        basic: `user:password` in base64.
        identity: the identity token.
        source: the file, helper or variable that has the credentials, for messages.
        problems: why other files and helpers gave no credentials, for messages. The texts contain no secrets.
        files: if there are no credentials, the configuration files that were read.
    """

    basic: str | None = None
    identity: str | None = None
    source: str = ""
    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class CredentialUse(NamedTuple):
    """The credentials for a request that the registry refused, to explain the refusal.

    Attributes:
        host: the registry, in the form that `helm registry login` and `docker login` accept.
        is_sent: whether the credentials were sent to the registry.
    """

    host: str
    credentials: Credentials
    is_sent: bool

    @property
    def reason(self) -> str:
        """Why the registry refused the request, as the end of a message."""
        found = self.credentials
        reasons = list(found.problems)
        if found.source:
            outcome = "it does not accept" if self.is_sent else "it offers no authentication that can use"
            reasons.insert(0, f"{outcome} the credentials of {found.source}")
        return "; ".join(reasons) or f"there are no credentials for it in {' or '.join(found.files)}"

    @property
    def hint(self) -> str:
        """What the user can do about the refusal."""
        login = f"log in with `helm registry login {self.host}` or `docker login {self.host}`"
        return f"correct this, or {login}" if self.credentials.problems else login


def find_credentials(host: Host, repository: str) -> Credentials:
    """Return the credentials for a repository of a registry.

    Environment variables come first: Helm uses them to pass the credentials of `helm repo add --username … --password …` to a getter
    plugin. Within a configuration file, the longest key that covers the repository comes first. `HOST/a` covers `HOST/a/b`, and `HOST`
    covers the whole registry (containers-auth.json(5)). For each key, credential helpers come before the file itself, as in Docker.
    """
    user, password = os.environ.get("HELM_PLUGIN_USERNAME"), os.environ.get("HELM_PLUGIN_PASSWORD")
    if user and password:
        return Credentials(base64.b64encode(os.fsencode(f"{user}:{password}")).decode(), source="`HELM_PLUGIN_USERNAME`")
    return _configured(host, repository)


@cache
def _configured(host: Host, repository: str) -> Credentials:
    problems: list[str] = []
    for path in _configurations():
        for found in _candidates(path, host, repository):
            if found.basic or found.identity:
                return found._replace(problems=tuple(problems))
            problems += [problem for problem in found.problems if problem not in problems]
    return Credentials(problems=tuple(problems), files=tuple(f"`{path}`" for path in _configurations()))


@cache
def _document(path: Path) -> dict[str, Json] | str:
    """Return a configuration file, empty if it is missing, or why it cannot be used."""
    shown = printable(str(path))
    try:
        document = parse_json(path.read_bytes().removeprefix(_BYTE_ORDER_MARK), f"`{shown}`")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        return f"`{shown}` cannot be read ({(error.strerror or 'no access').lower()})"
    except Error:
        return f"`{shown}` is not valid JSON"  # the parser's own message could quote a secret
    return document if isinstance(document, dict) else f"`{shown}` is not a JSON object"


def forget_credentials() -> None:
    """Clear the in-memory cache of credentials."""
    _document.cache_clear()
    _configured.cache_clear()
    _ask_helper.cache_clear()


def _candidates(path: Path, host: Host, repository: str) -> Iterator[Credentials]:
    """Yield the credentials or problems of a configuration file and its helpers, best first."""
    document, shown = _document(path), printable(str(path))
    if isinstance(document, str):
        yield Credentials(problems=(document,))
        return
    helpers, entries, store = _section(document, "credHelpers"), _section(document, "auths"), document.get("credsStore")
    plain = str(Host(host.name, None if host.port == 443 else host.port))  # `login` commands write this key
    paths = {key: found for key in (*helpers, *entries, plain) if (found := _covered(key, host, repository)) is not None}
    for key in sorted(paths, key=lambda key: -len(paths[key])):
        for setting, helper in (("credHelpers", helpers.get(key)), ("credsStore", store)):
            if helper:
                yield _of_helper(helper, key, f"`{setting}` of `{shown}`")
        if key in entries:
            yield _of_entry(entries[key], printable(key), shown)


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _covered(key: str, host: Host, repository: str) -> str | None:
    """Return the path of a key `[https://]host[:port][/path]` if the key covers the repository, else None.

    Old versions of Docker wrote the address of an API as the key (`https://host/v1/`). The path of such an address is ignored.
    """
    scheme, _, rest = key.rpartition("://")
    authority, _, path = rest.partition("/")
    try:
        named = Host.parse(authority)
    except Error:
        return None
    if (named.name, named.port or 443) != (host.name, host.port or 443):
        return None
    path = "" if scheme or path in _API_PATHS else path.rstrip("/")
    return path if f"{repository}/".startswith(f"{path}/" if path else "") else None


def _configurations() -> Iterator[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # the user has no home directory
        home = Path(os.devnull)
    named, helm = os.environ.get("HELM_REGISTRY_CONFIG"), os.environ.get("HELM_CONFIG_HOME")
    if named:
        yield Path(named)
    elif helm:
        yield Path(helm) / "registry/config.json"
    elif sys.platform == "darwin":
        yield home / "Library/Preferences/helm/registry/config.json"
    elif os.name == "nt":
        yield Path(os.environ.get("APPDATA", home)) / "helm/registry/config.json"
    else:
        yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "helm/registry/config.json"
    docker = os.environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else home / ".docker") / "config.json"


def _of_entry(entry: Any, key: str, shown: str) -> Credentials:
    """Return the credentials in an entry of `auths`. The credentials for an empty entry are in `credsStore`, so the result is empty."""
    source = f"`{shown}`"
    invalid = Credentials(problems=(f"the entry `{key[:200]}` of `{shown}` has no valid `auth`",))
    if not isinstance(entry, dict):
        return invalid
    identity = entry.get("identitytoken")
    if isinstance(identity, str) and _is_token(identity):  # an entry with an identity token has an empty password
        return Credentials(identity=identity, source=source)
    auth, user, password = entry.get("auth"), entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str) and user and not auth:
        with suppress(UnicodeEncodeError):  # a JSON string can contain a lone surrogate
            return Credentials(base64.b64encode(f"{user}:{password}".encode()).decode(), source=source)
        return invalid
    if not auth:
        return Credentials()
    with suppress(binascii.Error, ValueError):
        if isinstance(auth, str):  # like Docker, ignore line breaks, and NULs at the end
            pair = base64.b64decode(re.sub(r"[\r\n]", "", auth), validate=True).rstrip(b"\0")
            if b":" in pair:
                return Credentials(base64.b64encode(pair).decode(), source=source)
    return invalid


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable()


def _of_helper(helper: Any, key: str, setting: str) -> Credentials:
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", helper):
        return Credentials(problems=(f"{setting} is not the name of a credential helper",))
    found = _ask_helper(helper, key)
    subject = f"the credential helper `docker-credential-{helper}` ({setting})"
    return found._replace(source=subject, problems=tuple(f"{subject} {problem}" for problem in found.problems))


@cache
def _ask_helper(helper: str, key: str) -> Credentials:
    """Run `docker-credential-HELPER get` (docker-credential-helpers, protocol). Never show its output, because it may contain secrets."""
    program = find_program(f"docker-credential-{helper}")
    if program is None:
        return Credentials(problems=("is not installed",))
    try:
        answer = subprocess.run(  # noqa: S603 - the user configured this helper, and no shell is used
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            check=False,
            timeout=_HELPER_TIME,
        )
    except subprocess.TimeoutExpired:
        return Credentials(problems=(f"did not answer within {_HELPER_TIME:.0f} s",))
    except (OSError, ValueError) as error:
        return Credentials(problems=(f"cannot be run ({(getattr(error, 'strerror', None) or 'invalid key').lower()})",))
    if answer.returncode != 0:
        missing = _NOT_FOUND in answer.stdout.lower()
        return Credentials(problems=("has none",) if missing else (f"failed with exit status {answer.returncode}",))
    with suppress(ValueError, KeyError, TypeError):
        document = json.loads(answer.stdout)
        user, secret = document["Username"], document["Secret"]
        if user != "<token>":
            return Credentials(base64.b64encode(f"{user}:{secret}".encode()).decode())
        if _is_token(secret):
            return Credentials(identity=secret)
    return Credentials(problems=("sent no valid credentials",))
