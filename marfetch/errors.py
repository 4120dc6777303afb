"""The error classes and their exit codes.

```text
Error                    1   code, hint, context, exit_code; str() is one sentence
├─ InputError            2   a reference, range, address or option that cannot be read
├─ NotFoundError         3   repository, tag, version or blob does not exist
├─ PolicyError           4   host, redirect, scheme, media type or size refused
├─ IntegrityError        5   bytes do not match their descriptor, or a response is malformed
├─ SignatureError        6   missing, untrusted or wrong signature
├─ RemoteError           7   the registry failed or cannot be reached
│  └─ RateLimitedError   7   the registry throttles, and the time budget does not allow to wait
├─ LockError             8   the lock file does not match the project file or the registry
├─ StorageError          9   a local file cannot be written or read
├─ InternalError        70   a bug in marfetch
└─ Interrupted         130   Ctrl-C
   └─ Terminated       143   SIGTERM, SIGHUP
```

`code` is one of `CODES`; `context` holds the facts of the error as JSON values, under the names listed in `docs/reference/errors.md`.
"""

from __future__ import annotations

from typing import ClassVar

from .codes import CODES  # loaded at the start: after `too many open files`, no module can be loaded


class Error(Exception):
    """Base class of all errors that marfetch raises on purpose.

    Args:
        message: one sentence in lower case, with values last or in backticks.
        code: one of `CODES`.
        hint: what to do, as a sentence or a command line; None: the hint of the code.
        context: the facts of the error, as JSON values.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str, hint: str | None = None, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint or CODES[code].do
        self.context = {name: value for name, value in context.items() if value is not None}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all attributes; by default, unpickling an exception restores only its positional arguments."""
        return _restored, (type(self), self.message, self.__dict__)


def _restored(kind: type[Error], message: str, state: dict[str, object]) -> Error:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    return error


class InputError(Error):
    """The input is invalid (context: `text`, `part`, `position`)."""

    exit_code = 2


class NotFoundError(Error):
    """The requested artifact does not exist (context: `reference`, `nearest`)."""

    exit_code = 3


class PolicyError(Error):
    """A rule of marfetch or of the user refuses the operation (context: `url` or `reference`, `rule`)."""

    exit_code = 4


class IntegrityError(Error):
    """Content does not match its descriptor or specification (context: `expected`, `actual`, `url`)."""

    exit_code = 5


class SignatureError(Error):
    """A signature or provenance is missing, untrusted or wrong (context: `reference`, `reason`)."""

    exit_code = 6


class RemoteError(Error):
    """The registry failed or cannot be reached (context: `url` without query, `status`, `wire`, `msedge_ref`)."""

    exit_code = 7


class RateLimitedError(RemoteError):
    """The registry throttles for longer than the time budget allows to wait (additional context: `retry_after` in seconds, `host`)."""

    def __init__(self, message: str, *, hint: str | None = None, **context: object) -> None:
        super().__init__(message, code="rate-limited", hint=hint, **context)


class LockError(Error):
    """The lock file does not match the project file or the registry (context: `entry`)."""

    exit_code = 8


class StorageError(Error):
    """A local file cannot be written or read (context: `path`, `needed`, `free` in bytes)."""

    exit_code = 9


class InternalError(Error):
    """A bug in marfetch (context: `type`, the name of the exception)."""

    exit_code = 70


class Interrupted(Error):  # noqa: N818 - an interrupt is not a failure
    """Ctrl-C ended the command."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM or SIGHUP ended the command."""

    exit_code = 143
