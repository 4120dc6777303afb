"""Parse references to artifacts, as people type or paste them.

The grammar is that of the distribution specification ("Pulling manifests"). The first component is a host only if it contains `.` or `:`
or is `localhost`. Invalid input is never corrected silently: the error names the invalid part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, NoReturn

from .errors import InputError, PolicyError
from .oci import Digest
from .text import redacted, typed

OFFICIAL_HOSTS: Final = ("mcr.microsoft.com", "mcr.azure.cn")
"""The registry hosts of MAR, also used to recognize URLs of its portal."""

MAX_REPOSITORY_LENGTH: Final = 255

_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]{2,39}\])(?::(?P<port>[0-9]{1,5}))?")
_MAX_LABEL: Final = 63  # RFC 1035, 2.3.4
_OCTET = r"(?:0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ADDRESS_HINT: Final = "write an IP address as four decimal numbers such as `192.0.2.17`, or as `[2001:db8::17]`"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCALE = r"[a-z]{2}(?:-[a-z]{2,4})?/"
_PORTAL: Final = rf"(?i)(?:{_LOCALE})?(?:artifact/mar|product)/(?P<repository>.+?)(?:/(?:about|tags))?/?"
_API: Final = r"v2/(?P<repository>.+?)/(?:tags/list|(?:manifests|blobs)/(?P<name>[^/]+))"


class Host(NamedTuple):
    """A host name or IP address with an optional port, from a reference or a URL.

    Attributes:
        name: in lower case; an IPv6 address in its short form (RFC 5952), with brackets.
        port: 1 to 65535; None if not given.
    """

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Parse `name[:port]`.

        Accepts only forms that all URL parsers read alike. An IP address must be written in full, since `127.1`, `0x7f.0.0.1` and
        `[::ffff:127.0.0.1]` disguise their target. The endpoint decides whether an address may be contacted.

        Raises:
            PolicyError: `address-refused`: the form can disguise its target.
            InputError: `reference-invalid`: it is not a host.
        """
        match = _HOST.fullmatch(text)
        if match is None:
            _refuse_host(text)
        name = match["name"].lower()
        if any(not 0 < len(label) <= _MAX_LABEL or "-" in (label[0], label[-1]) for label in name.split(".")):
            _refuse_host(text)
        port = int(match["port"]) if match["port"] else None
        if port is not None and not 0 < port < 65536:
            _fail(text, f"port {port} is not between 1 and 65535", str(port))
        if name.startswith("["):
            name = _ipv6(text, name[1:-1])
        # URL parsers and `inet_aton` read a name whose last label is a number as an IPv4 address (`127.1`, `0x7f.1`).
        elif _NUMBER.fullmatch(name.rpartition(".")[2]) and not _IPV4.fullmatch(name):
            _refuse_host(text, "it is not an IP address in full form, but some programs read it as one", hint=_ADDRESS_HINT)
        return cls(name, port)

    @property
    def is_address(self) -> bool:
        """Whether it is an IP address instead of a name."""
        return self.name.startswith("[") or _IPV4.fullmatch(self.name) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether it is `localhost`, in `127.0.0.0/8`, or `[::1]`."""
        return self.name in ("localhost", "[::1]") or (self.name.startswith("127.") and self.is_address)

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


def _ipv6(text: str, address: str) -> str:
    """Return an IPv6 address in its short form, with brackets."""
    import ipaddress  # late: only an IPv6 address needs ipaddress

    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        _fail(text, f"`[{address}]` is not an IPv6 address", address)
    if parsed.ipv4_mapped is not None:
        _refuse_host(text, "it is an IPv4 address in the form of an IPv6 address", hint=f"write the IP address as `{parsed.ipv4_mapped}`")
    return f"[{parsed.compressed}]"


def _refuse_host(
    text: str, reason: str | None = None, *, hint: str = "use an official host: `mcr.microsoft.com` or `mcr.azure.cn`"
) -> NoReturn:
    if reason is None:
        if "@" in text:
            reason = "it has user information before the host"
        elif "\\" in text:
            reason = "it contains a backslash"
        elif not text.isascii():
            reason = "it contains a non-ASCII character"
        elif text.partition(":")[0].endswith("."):
            reason = "it ends with a dot"
        else:
            _fail(text, f"`{text[:100]}` is not a host")
    raise PolicyError(
        f"the host `{redacted(text)[:100]}` is refused: {reason}",
        code="address-refused",
        hint=hint,
        text=redacted(text)[:200],
        rule=reason,
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an artifact, or of a repository if it has neither tag nor digest.

    `str()` returns the canonical form, which `parse` converts back to an equal value.

    Attributes:
        repository: the path without the host, such as `application-lb/charts/alb-controller`.
        host: the registry; None for the default endpoint.
        tag: None if not given; there is no default tag.
        digest: the digest of the manifest or index.
        scheme: `http` or `https` if given for a loopback address; None otherwise.
    """

    repository: str
    host: Host | None = None
    tag: str | None = None
    digest: Digest | None = None
    scheme: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse one of the forms in `docs/reference/references.md`.

        Raises:
            InputError: `reference-invalid` or `digest-invalid`, naming the invalid part.
            PolicyError: `address-refused`: the host can disguise its target, or plain http is used for a host that is not loopback.
        """
        pasted = Pasted.parse(text)
        if pasted.version is not None:
            raise InputError(
                f"the command has `--version {pasted.version}`, which is not part of a reference",
                code="reference-invalid",
                hint=f"use `{pasted.reference}` with `--version '{pasted.version}'`",
                text=text[:300],
            )
        return pasted.reference

    @property
    def name(self) -> str:
        """The last component of the repository."""
        return self.repository.rpartition("/")[2]

    @property
    def full_repository(self) -> str:
        """The repository with the host, if any."""
        return f"{self.host}/{self.repository}" if self.host else self.repository

    @property
    def shown(self) -> str:
        """The reference for messages: without the digest if it has a tag."""
        return str(replace(self, digest=None) if self.tag else self)

    def pinned(self, digest: Digest) -> Reference:
        """Return the reference with this digest and without the scheme, for records and output."""
        return replace(self, digest=digest, scheme=None)

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{scheme}{self.full_repository}{tag}{digest}"


class Pasted(NamedTuple):
    """A pasted reference, or the reference and version range of a pasted helm command.

    Attributes:
        version: the value of `--version`, not yet parsed; None if not given.
        devel: whether the command has `--devel`.
        taken_from: the whole command, to show the user what was extracted; None for a plain reference.
    """

    reference: Reference
    version: str | None = None
    devel: bool = False
    taken_from: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pasted:
        """Parse a reference, a portal URL, or a command such as `helm pull oci://… --version 1.7`.

        Raises:
            InputError: `reference-invalid` or `digest-invalid`.
            PolicyError: `address-refused`.
        """
        if re.match(r"(?:\$\s+)?helm\s", text):
            return _helm_line(text)
        return cls(_reference(text))


def is_tag(text: str) -> bool:
    """Return whether the text is a valid tag."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Return whether the text is a valid repository."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


def _fail(text: str, reason: str, part: str | None = None, *, hint: str | None = None) -> NoReturn:
    position = text.find(part) if part else -1
    raise InputError(
        f"`{typed(text)}` is not a reference: {reason}",
        code="reference-invalid",
        hint=hint or "write `repository`, `repository:tag` or `repository@sha256:…`, with or without `mcr.microsoft.com/`",
        text=typed(text),
        part=part,
        position=position if position >= 0 else None,
    )


def _helm_line(text: str) -> Pasted:
    import shlex  # late: only a pasted command needs shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        _fail(text, f"the command cannot be parsed ({str(error).lower()})")
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
                _fail(text, "`--version` has no value", "--version")
        elif word.startswith("--version="):
            version = word.removeprefix("--version=")
        elif word == "--devel":
            devel = True
        elif word.startswith("oci://"):
            found.append(word)
    if len(found) != 1:
        _fail(text, f"the helm command has {len(found) or 'no'} `oci://` references", hint="give only the `oci://…` reference")
    return Pasted(_reference(found[0]), version, devel, text.strip())


def _reference(text: str) -> Reference:
    if not text:
        _fail(text, "it is empty")
    for position, character in enumerate(text):
        if character.isspace() or not character.isprintable():
            raise InputError(
                f"a reference cannot contain spaces or control characters, but has one at position {position}",
                code="reference-invalid",
                text=text[:300],
                position=position,
            )
    scheme, rest = _scheme(text)
    if "\\" in rest:
        _refuse_host(text, "it contains a backslash")
    host, path = _host(text, rest, scheme)
    if scheme in ("http", "https"):
        if host is None:
            _refuse_host(rest.partition("/")[0])
        if scheme == "http" and not host.is_loopback:
            raise PolicyError(
                f"`{redacted(text)}` is refused: plain http is allowed only for loopback addresses",
                code="address-refused",
                hint=f"write `https://{redacted(rest)[:200]}`",
                text=redacted(text),
                rule="https only",
            )
    if host is not None and host.name in OFFICIAL_HOSTS and scheme in (None, "https"):
        portal = re.fullmatch(_PORTAL, path)
        api = re.fullmatch(_API, path) if scheme == "https" else None
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
        _fail(text, f"the scheme `{match[0]}` is not `oci://`, `mar://` or `https://`", match[0])
    return scheme, text[match.end() :]


def _host(text: str, rest: str, scheme: str | None) -> tuple[Host | None, str]:
    """Split off the host. Unless the scheme is http(s), a first component without a dot is part of the path, as in `oci://aks/foo`."""
    first, slash, path = rest.partition("/")
    is_host = first.lower() == "localhost" or "." in first or ":" in first or first.startswith("[")
    if not slash:
        # A single component is a repository (`foo:1.2.3`, `foo@sha256:…`), unless it is clearly a host.
        name = re.split("[:@]", first, maxsplit=1)[0].lower()
        if scheme in ("http", "https") or name == "localhost" or "." in name or first.startswith("["):
            _fail(
                text,
                f"`{redacted(first)}` is a registry, and no repository is given",
                redacted(first),
                hint="add the repository, such as `…/application-lb/charts/alb-controller`",
            )
        return None, rest
    if not is_host and scheme not in ("http", "https"):
        return None, rest
    host = Host.parse(first)
    # Add the port: without a scheme, a name without a dot is read as a host only if it has a port.
    return host if is_host else host._replace(port=443), path


def _path(text: str, path: str, host: Host | None, scheme: str | None) -> Reference:
    name, at, digest_text = path.partition("@")
    digest = Digest.parse(digest_text) if at else None
    # Tags cannot contain a slash, so a colon before the last slash belongs to the repository, where it is invalid.
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = head + slash + last
    if colon and not _TAG.fullmatch(tag):
        written = tag.replace("+", "_")
        hint = f"a tag has `_` where a version has `+`: write `{repository}:{written}`" if _TAG.fullmatch(written) else None
        reason = f"`{tag[:140]}` is not a tag (at most 128 letters, digits, `_`, `.` and `-`)" if tag else "the tag is empty"
        _fail(text, reason, tag, hint=hint)
    if any(mark in repository for mark in "?#"):
        mark = "?" if "?" in repository else "#"
        _fail(text, f"a reference cannot have a `{mark}…` part", mark)
    for part in repository.split("/"):
        if not part:
            _fail(text, "a component of the repository is empty (`//`, or `/` at the start or end)", "//" if "//" in text else None)
        if not re.fullmatch(_PART, part):
            lower = " (lower case only)" if part != part.lower() else ""
            _fail(text, f"`{part[:140]}` is not a valid component of a repository{lower}", part)
    if len(repository) > MAX_REPOSITORY_LENGTH:
        _fail(text, f"the repository has {len(repository)} characters, more than {MAX_REPOSITORY_LENGTH}")
    return Reference(repository, host, tag if colon else None, digest, scheme)
