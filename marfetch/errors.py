"""The error tree: what can go wrong, with the exit code that each class owns.

```text
Error                    1   code, hint, context, exit_code; str() is one sentence
├─ InputError            2   a reference, range, address or option that cannot be read
├─ NotFoundError         3   repository, tag, version or blob does not exist
├─ PolicyError           4   host, redirect, scheme, media type or size refused
├─ IntegrityError        5   bytes are not what their descriptor says, or an answer is malformed
├─ SignatureError        6   missing, untrusted or wrong signature
├─ RemoteError           7   the registry failed or cannot be reached
│  └─ RateLimitedError   7   told to come back later, and the time for waiting is used up
├─ LockError             8   the lock does not match what was asked or found
└─ StorageError          9   a local file cannot be written or read
```

`code` is one of the stable words of `CODES`; `context` holds the facts of the single case (JSON values only), under the names
that `docs/reference/errors.md` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

# code: (the class that raises it, what it means); `docs/reference/errors.md` is generated from this table.
CODES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # 2: what was typed
        "usage": ("InputError", "options that do not go together, or a value that an option does not take"),
        "reference-invalid": ("InputError", "a reference that does not follow the grammar"),
        "digest-invalid": ("InputError", "a digest that is not `sha256:` or `sha512:` with its lower-case hex digits"),
        "constraint-invalid": ("InputError", "a version range that Helm would not take either"),
        "endpoint-invalid": ("InputError", "an endpoint that is neither `global`, `china` nor `https://host[:port]`"),
        "platform-invalid": ("InputError", "a platform that is not `os/architecture[/variant]`"),
        "platform-needed": ("InputError", "the index holds several artifacts and none was chosen"),
        # 3: what is not there
        "repository-not-found": ("NotFoundError", "the registry does not know the repository"),
        "tag-not-found": ("NotFoundError", "the repository has no manifest under this tag"),
        "manifest-not-found": ("NotFoundError", "the repository has no manifest with this digest"),
        "blob-not-found": ("NotFoundError", "a manifest names a blob that the registry does not have"),
        "version-not-found": ("NotFoundError", "no version of the repository is in the range"),
        "no-versions": ("NotFoundError", "none of the tags of the repository is a version"),
        "dangling-tag": ("NotFoundError", "a tag is listed but its manifest is missing"),
        "platform-not-found": ("NotFoundError", "the index holds nothing for this platform"),
        "layer-not-found": ("NotFoundError", "no layer has the media type that was asked for"),
        # 4: what is refused
        "host-refused": ("PolicyError", "a host that is neither the registry nor one of its data hosts"),
        "address-refused": ("PolicyError", "an address whose form can hide its host, or that is not https"),
        "redirect-refused": ("PolicyError", "a redirect that leads nowhere, in circles or too far"),
        "endpoint-disagrees": ("PolicyError", "`--endpoint` and the reference name different registries"),
        "kind-refused": ("PolicyError", "the artifact is not of the kind or artifact type that was asked for"),
        "image-refused": ("PolicyError", "a container image, for which other tools are made"),
        "name-refused": ("PolicyError", "a title that is not safe as a file name"),
        "limit-passed": ("PolicyError", "an answer is larger or longer than marfetch takes"),
        "cache-unsafe": ("PolicyError", "the cache directory can be written by everybody"),
        # 5: what is not what it should be
        "digest-mismatch": ("IntegrityError", "bytes do not have the digest of their descriptor"),
        "size-mismatch": ("IntegrityError", "bytes do not have the size of their descriptor"),
        "tag-moved": ("IntegrityError", "tag and digest of a reference do not belong together"),
        "malformed": ("IntegrityError", "an answer is not what the specification says it is"),
        # 7: what failed on the way
        "unreachable": ("RemoteError", "no connection to the host"),
        "tls": ("RemoteError", "the certificate of the host cannot be trusted"),
        "proxy": ("RemoteError", "the proxy does not let the request through"),
        "timeout": ("RemoteError", "no answer, or no data, within the time"),
        "cut": ("RemoteError", "a transfer ended early and could not be brought to its end"),
        "blocked": ("RemoteError", "the front door answered with a block page; this says nothing about the repository"),
        "unauthorized": ("RemoteError", "the registry asks for credentials that are not there or not right"),
        "denied": ("RemoteError", "the registry refuses the request (403)"),
        "server-error": ("RemoteError", "the registry answered with a failure of its own (5xx)"),
        "unexpected-answer": ("RemoteError", "the registry answered with a status that has no place here"),
        "offline": ("RemoteError", "`--offline` was given and the cache does not have it"),
        "rate-limited": ("RateLimitedError", "the registry said to come back later"),
        # 9: the local disk
        "disk-full": ("StorageError", "not enough room on the disk"),
        "file-differs": ("StorageError", "a different file of that name is already there"),
        "name-clash": ("StorageError", "two payloads have one name"),
        "not-fetched": ("StorageError", "left out, since names of the same call clash"),
        "file-unusable": ("StorageError", "a local file or directory cannot be read or written"),
        "cache-damaged": ("StorageError", "the cache holds something that is not what its name says"),
    }
)


class Error(Exception):
    """What marfetch raises for everything but its own bugs.

    Args:
        message: one sentence in lower case, the value last or in backticks.
        code: one of `CODES`.
        hint: the next thing to try, as a sentence or a command line.
        context: the facts of this case; values are JSON values.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str, hint: str | None = None, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.context = {name: value for name, value in context.items() if value is not None}


class InputError(Error):
    """What was typed cannot be read (context: `text`, `part`, `position`)."""

    exit_code = 2


class NotFoundError(Error):
    """What was asked for does not exist (context: `reference`, `nearest`)."""

    exit_code = 3


class PolicyError(Error):
    """A rule of marfetch or of the user refuses it (context: `url` or `reference`, `rule`)."""

    exit_code = 4


class IntegrityError(Error):
    """Bytes are not what their descriptor or specification says (context: `expected`, `actual`, `url`)."""

    exit_code = 5


class SignatureError(Error):
    """A signature or provenance is missing, untrusted or wrong (context: `reference`, `reason`)."""

    exit_code = 6


class RemoteError(Error):
    """The registry failed or cannot be reached (context: `url` without query, `status`, `wire`, `msedge_ref`)."""

    exit_code = 7


class RateLimitedError(RemoteError):
    """The registry said to come back later than we may wait (context also: `retry_after`, seconds; `host`)."""

    def __init__(self, message: str, *, hint: str | None = None, **context: object) -> None:
        super().__init__(message, code="rate-limited", hint=hint, **context)


class LockError(Error):
    """The lock does not match what was asked or found (context: `entry`)."""

    exit_code = 8


class StorageError(Error):
    """A local file cannot be written or read (context: `path`, `needed`, `free` in bytes)."""

    exit_code = 9
