"""References: the names of artifacts, from what people type or paste to one frozen value and back.

The grammar is that of the distribution specification ("Pulling manifests"); a host stands in front only where the first part holds
`.` or `:` or is `localhost`. Nothing is cleaned silently: what does not fit is refused with the part that does not fit.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, NoReturn

from .errors import InputError, PolicyError
from .oci import Digest
from .text import redacted, typed

OFFICIAL_HOSTS: Final = ("mcr.microsoft.com", "mcr.azure.cn")
"""The registry hosts of MAR; a portal address is known by them."""

MAX_REPOSITORY_LENGTH: Final = 255

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?P<name>(?:{_LABEL})(?:\.{_LABEL})*|\[[0-9a-f:]{{2,39}}\])(?::(?P<port>[0-9]{{1,5}}))?", re.IGNORECASE)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REPOSITORY = re.compile(rf"{_PART.pattern}(?:/{_PART.pattern})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCALE = r"[a-z]{2}(?:-[a-z]{2,4})?/"
_PORTAL = re.compile(rf"(?:{_LOCALE})?(?:artifact/mar|product)/(?P<repository>.+?)(?:/(?:about|tags))?/?", re.IGNORECASE)
_API = re.compile(r"v2/(?P<repository>.+?)/(?:tags/list|(?:manifests|blobs)/(?P<name>[^/]+))")


@dataclass(frozen=True, slots=True)
class Host:
    """A host name or loopback address with an optional port, as it stands in a reference or an address.

    Attributes:
        name: lower case; an IPv6 address keeps its brackets.
        port: 1 to 65535; None where it was not written.
    """

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Read `name[:port]`.

        Only forms on which every address parser agrees are taken; an IP literal other than a loopback address is refused, since MAR
        is reached by its official names and a literal can hide what it points to.

        Raises:
            PolicyError: `address-refused`: the form can hide where it leads.
            InputError: `reference-invalid`: it is no host at all.
        """
        match = _HOST.fullmatch(text)
        if match is None:
            _refuse_host(text)
        name = match["name"].lower()
        port = int(match["port"]) if match["port"] else None
        if port is not None and not 0 < port < 65536:
            _fail(text, f"port {port} is not between 1 and 65535", str(port))
        host = cls(name, port)
        if host._is_address and not host.is_loopback:
            _refuse_host(text, "an IP address stands in place of a name")
        return host

    @property
    def _is_address(self) -> bool:
        # A name whose last label is a number is read as an IPv4 address by web parsers and by `inet_aton` (`127.1`, `0x7f.1`).
        last = self.name.rpartition(".")[2]
        return self.name.startswith("[") or last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine: `localhost`, `127.0.0.0/8` in full form, or `[::1]`."""
        if self.name in ("localhost", "[::1]"):
            return True
        octets = self.name.split(".")
        return len(octets) == 4 and octets[0] == "127" and all(re.fullmatch(r"0|[1-9][0-9]{0,2}", o) and int(o) < 256 for o in octets)

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


def _refuse_host(text: str, reason: str | None = None) -> NoReturn:
    if reason is None:
        if "@" in text:
            reason = "user information stands before the host"
        elif "\\" in text:
            reason = "a backslash stands in the host"
        elif not text.isascii():
            reason = "the host holds a character outside ASCII"
        elif text.partition(":")[0].endswith("."):
            reason = "the host ends in a dot"
        else:
            _fail(text, f"`{text[:100]}` stands where a host is expected, but is none")
    raise PolicyError(
        f"the host `{redacted(text)[:100]}` is refused: {reason}",
        code="address-refused",
        hint="official names only: `mcr.microsoft.com` or `mcr.azure.cn`",
        text=redacted(text)[:200],
        rule=reason,
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an artifact, or of a repository where neither tag nor digest is given.

    `str()` is the canonical form, and `parse` reads it back to an equal value.

    Attributes:
        repository: the path without the host, such as `application-lb/charts/alb-controller`.
        host: the registry; None where the endpoint's registry is meant.
        tag: None where it was not written: there is no default tag.
        digest: of the manifest or index.
        scheme: `http` or `https` where it was written for a loopback address; None otherwise.
    """

    repository: str
    host: Host | None = None
    tag: str | None = None
    digest: Digest | None = None
    scheme: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read one of the forms that `docs/reference/references.md` shows.

        Raises:
            InputError: `reference-invalid` or `digest-invalid`, naming the part that does not fit.
            PolicyError: `address-refused`, for a host in a form that can hide where it leads, or for plain http.
        """
        pasted = Pasted.parse(text)
        if pasted.version is not None:
            raise InputError(
                f"the line also asks for the version `{pasted.version}`, which is no part of a reference",
                code="reference-invalid",
                hint=f"use `{pasted.reference}` with `--version '{pasted.version}'`",
                text=text[:300],
            )
        return pasted.reference

    @property
    def name(self) -> str:
        """The last part of the repository."""
        return self.repository.rpartition("/")[2]

    @property
    def full_repository(self) -> str:
        """The repository with the host where there is one."""
        return f"{self.host}/{self.repository}" if self.host else self.repository

    @property
    def shown(self) -> str:
        """The reference for messages: without the digest where it has a tag."""
        return str(replace(self, digest=None) if self.tag else self)

    def pinned(self, digest: Digest) -> Reference:
        """The same reference with this digest, and without the scheme: as it is recorded and shown."""
        return replace(self, digest=digest, scheme=None)

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{scheme}{self.full_repository}{tag}{digest}"


class Pasted(NamedTuple):
    """What a pasted text asks for: a reference, and a version range where it was a line for helm.

    Attributes:
        version: what stood behind `--version`, not yet read; None where nothing stood there.
        devel: whether the line said `--devel`.
        taken_from: the line, where the reference was only a part of it, so that the user can be told what was taken.
    """

    reference: Reference
    version: str | None = None
    devel: bool = False
    taken_from: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pasted:
        """Read a reference, a portal address, or a line such as `helm pull oci://… --version 1.7`.

        Raises:
            InputError: `reference-invalid` or `digest-invalid`.
            PolicyError: `address-refused`.
        """
        if re.match(r"(?:\$\s+)?helm\s", text):
            return _helm_line(text)
        return cls(_reference(text))


def is_tag(text: str) -> bool:
    """Whether the text follows the grammar of tags."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether the text follows the grammar of repositories."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


def _fail(text: str, reason: str, part: str | None = None, *, hint: str | None = None) -> NoReturn:
    position = text.find(part) if part else -1
    raise InputError(
        f"`{typed(text)}` is not a reference: {reason}",
        code="reference-invalid",
        hint=hint or "write `repository`, `repository:tag`, `repository@sha256:…` or any of these behind `mcr.microsoft.com/`",
        text=typed(text),
        part=part,
        position=position if position >= 0 else None,
    )


def _helm_line(text: str) -> Pasted:
    try:
        words = shlex.split(text)
    except ValueError as error:
        _fail(text, f"the quotes of the line do not match ({error})")
    if words[0] == "$":
        words = words[1:]
    version: str | None = None
    devel = False
    found: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == "--version":
            version = next(rest, None)
            if version is None:
                _fail(text, "nothing stands behind `--version`", "--version")
        elif word.startswith("--version="):
            version = word.removeprefix("--version=")
        elif word == "--devel":
            devel = True
        elif word.startswith("oci://"):
            found.append(word)
    if len(found) != 1:
        _fail(text, f"the line for helm names {len(found) or 'no'} `oci://` charts", hint="give the one `oci://…` reference that is meant")
    return Pasted(_reference(found[0]), version, devel, text.strip())


def _reference(text: str) -> Reference:
    if not text:
        _fail(text, "it is empty")
    for position, character in enumerate(text):
        if character.isspace() or not character.isprintable():
            raise InputError(
                f"a reference holds no spaces and no control characters, but one stands at position {position}",
                code="reference-invalid",
                text=text[:300],
                position=position,
            )
    scheme, rest = _scheme(text)
    if "\\" in rest:
        _refuse_host(text, "it holds a backslash")
    host, path = _host(text, rest, scheme)
    if scheme in ("http", "https"):
        if host is None:
            _refuse_host(rest.partition("/")[0])
        if scheme == "http" and not host.is_loopback:
            raise PolicyError(
                f"`{redacted(text)}` is refused: plain http is for loopback addresses only",
                code="address-refused",
                hint=f"write `https://{redacted(rest)[:200]}`",
                text=redacted(text),
                rule="https only",
            )
    if host is not None and host.name in OFFICIAL_HOSTS and scheme in (None, "https"):
        portal = _PORTAL.fullmatch(path)
        api = _API.fullmatch(path) if scheme == "https" else None
        if portal:
            path = portal["repository"]
        elif api:
            path = api["repository"] + (f"{'@' if ':' in api['name'] else ':'}{api['name']}" if api["name"] else "")
    kept = scheme if scheme in ("http", "https") and host is not None and host.is_loopback else None
    return _path(text, path, host, kept)


def _scheme(text: str) -> tuple[str | None, str]:
    match = _SCHEME.match(text)
    if match is None:
        return None, text
    scheme = match[1].lower()
    if scheme not in ("oci", "mar", "https", "http"):
        _fail(text, f"`{match[0]}` is none of `oci://`, `mar://` and `https://`", match[0])
    return scheme, text[match.end() :]


def _host(text: str, rest: str, scheme: str | None) -> tuple[Host | None, str]:
    """Split off the host. With a scheme other than http(s) a first part without a dot is a path too, as in `oci://aks/foo`."""
    first, slash, path = rest.partition("/")
    is_host = first.lower() == "localhost" or "." in first or ":" in first or first.startswith("[")
    if not slash:
        # A single part is a repository (`foo:1.2.3`, `foo@sha256:…`), unless it is plainly the name of a registry.
        name = re.split("[:@]", first, maxsplit=1)[0].lower()
        if scheme in ("http", "https") or name == "localhost" or "." in name or first.startswith("["):
            _fail(
                text,
                f"`{redacted(first)}` names a registry but no repository",
                redacted(first),
                hint="add the repository, such as `…/aks/foo`",
            )
        return None, rest
    if not is_host and scheme not in ("http", "https"):
        return None, rest
    host = Host.parse(first)
    # A name without a dot is known for a host by its port alone, once the scheme is gone.
    return host if is_host else replace(host, port=443), path


def _path(text: str, path: str, host: Host | None, scheme: str | None) -> Reference:
    name, at, digest_text = path.partition("@")
    digest = Digest.parse(digest_text) if at else None
    # A tag cannot hold a slash, so a colon before the last slash belongs to the repository, where it is an error.
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = head + slash + last
    if colon and not _TAG.fullmatch(tag):
        _fail(text, f"`{tag[:140]}` is not a tag (at most 128 letters, digits, `_`, `.` and `-`)" if tag else "the tag is empty", tag)
    if any(mark in repository for mark in "?#"):
        mark = "?" if "?" in repository else "#"
        _fail(text, f"a reference has no `{mark}…` part", mark)
    for part in repository.split("/"):
        if not part:
            _fail(text, "a part of the repository is empty (two slashes in a row, or one at an end)", "//" if "//" in text else None)
        if not _PART.fullmatch(part):
            lower = " (lower case only)" if part != part.lower() else ""
            _fail(text, f"`{part[:140]}` is not a part of a repository name{lower}", part)
    if len(repository) > MAX_REPOSITORY_LENGTH:
        _fail(text, f"the repository has {len(repository)} characters, more than {MAX_REPOSITORY_LENGTH}")
    return Reference(repository, host, tag if colon else None, digest, scheme)
