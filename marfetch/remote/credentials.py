"""Finds the credentials of a registry in the configuration of Helm and Docker, and in credential helpers.

They are read only when the user's own registry requires credentials, never for MAR.
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

from ..document import parse_json
from ..errors import Error
from ..reference import Host

_HELPER_TIME = 10.0  # seconds
_MAX_TOKEN: Final = 32 << 10


def basic_credentials(host: Host) -> str | None:
    """Return `user:password` for a registry, in base64; None if there is no password.

    The environment comes first: Helm passes the credentials of `helm repo add --username … --password …` to a getter there.
    """
    user, password = os.environ.get("HELM_PLUGIN_USERNAME"), os.environ.get("HELM_PLUGIN_PASSWORD")
    if user and password:
        return base64.b64encode(os.fsencode(f"{user}:{password}")).decode()
    found = _found(host)
    return found.basic if found is not None else None


def identity_token(host: Host) -> str | None:
    """Return the identity token for a registry, as `az acr login` stores it; None if there is none, or a password comes first.

    The realm exchanges it for an access token (distribution, "OAuth2 token authentication").
    """
    found = _found(host)
    return found.identity if found is not None else None


class _Secret(NamedTuple):
    """A password or an identity token; the other is None.

    Attributes:
        basic: `user:password` in base64.
    """

    basic: str | None = None
    identity: str | None = None


@cache
def _found(host: Host) -> _Secret | None:
    for path in _configurations():
        document = _read(path)
        for section, find in (("credHelpers", _by_helper), ("auths", _by_entry)):
            entries = document.get(section)
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                found = find(entry, name, document) if _names(name, host) else None
                if found:
                    return found
    return None


def forget_credentials() -> None:
    """Clear the cache of credentials."""
    _found.cache_clear()


def _names(key: str, host: Host) -> bool:
    """Return whether a configuration key `[https://]host[:port][/path]` means this registry; the default port is 443."""
    name, _, port = key.partition("://")[2 if "://" in key else 0].partition("/")[0].lower().rpartition(":")
    if not name or not port.isascii() or not port.isdigit():  # no port; the last colon may be in an IPv6 address
        name, port = f"{name}:{port}" if name else port, "443"
    return (name, int(port[:6])) == (host.name, host.port or 443)


def _by_helper(helper: Any, name: str, _: dict[str, Any]) -> _Secret | None:
    return _ask_helper(helper, name)


def _by_entry(entry: Any, name: str, document: dict[str, Any]) -> _Secret | None:
    if not isinstance(entry, dict):
        return None
    return _entry(entry) or (_ask_helper(document["credsStore"], name) if document.get("credsStore") else None)


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


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, Error):
        document = parse_json(path.read_bytes(), f"`{path}`")
        if isinstance(document, dict):
            return document
    return {}


def _entry(entry: dict[str, Any]) -> _Secret | None:
    identity = entry.get("identitytoken")
    if isinstance(identity, str) and _is_token(identity):  # such an entry has an empty password
        return _Secret(identity=identity)
    auth, user, password = entry.get("auth"), entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str) and user and not auth:
        with suppress(UnicodeEncodeError):  # JSON can hold a lone surrogate
            return _Secret(base64.b64encode(f"{user}:{password}".encode()).decode())
        return None
    if not isinstance(auth, str) or not auth:
        return None
    with suppress(binascii.Error, ValueError):
        if b":" in base64.b64decode(auth, validate=True):
            return _Secret(auth)
    return None


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable()


def _ask_helper(helper: Any, name: str) -> _Secret | None:
    """Run `docker-credential-HELPER get` (docker-credential-helpers, protocol); return None if it fails or times out."""
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", helper):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        answer = subprocess.run(  # noqa: S603 - the helper that the user has configured, by its name, without a shell
            [f"docker-credential-{helper}", "get"],
            input=name.encode(),
            capture_output=True,
            check=True,
            timeout=_HELPER_TIME,
        )
        document = json.loads(answer.stdout)
        if document["Username"] == "<token>":  # the secret is an identity token
            return _Secret(identity=document["Secret"]) if _is_token(document["Secret"]) else None
        return _Secret(base64.b64encode(f"{document['Username']}:{document['Secret']}".encode()).decode())
    return None
