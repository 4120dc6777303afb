"""The getter that Helm runs for each `mar://` address. It writes verified content to stdout, or nothing.

Helm passes four arguments: the repository's certificate, key and CA files, and the address. If the exit code is 0, Helm uses the output
as the content. Helm sets no timeout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TextIO, cast

from ..content import Silent
from ..errors import Error, Interrupted, NotFoundError, StorageError
from ..layout.cache import cache_root
from ..records import Records
from ..reference import Host, Reference
from ..text import printable, redacted
from ..threads import resource_error
from .address import ChartAddress, parse

if TYPE_CHECKING:
    from ..client.session import Session

_HINTS: Final = {
    "kind-refused": "Helm accepts only charts; download other artifacts with `marfetch pull`, or look at them with `marfetch inspect`",
    "dangling-tag": "choose another version; `helm search repo --versions` lists them",
    "usage": "pass an existing file to Helm's `--ca-file`",
}
_OPTIONS: Final = {
    "`--endpoint https://": "`MARFETCH_ENDPOINT=https://",
    "`--endpoint`": "`MARFETCH_ENDPOINT`",
    "`--data-host ": "`MARFETCH_DATA_HOSTS=",
    "`--data-host`": "`MARFETCH_DATA_HOSTS`",
    "`--cache-dir`": "`MARFETCH_CACHE_DIR`",
    "`--destination` or ": "",
    ", or set a longer `--timeout`": "",
}
"""Replacements for options in hints. With Helm, only environment variables work, because Helm passes no options to the getter."""


def main(arguments: Sequence[str]) -> int:
    """Serve one call from Helm.

    Args:
        arguments: the last four are the certificate, key and CA files, which may be empty, and the address.

    Returns:
        0 if the complete content was written to stdout. Otherwise the exit code of the error, which is printed to stderr as one line.
    """
    url = arguments[-1] if arguments else ""
    ca_file = arguments[-2] if len(arguments) >= 4 and arguments[-2] else None
    if any(arguments[-4:-2]):
        _say("warning: client certificates are ignored: MAR does not use them")
    try:
        data = content(url, ca_file)
        if cast("TextIO | None", sys.stdout) is None:  # None if the parent process has closed stdout
            raise StorageError("stdout is closed", code="file-unusable")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except BrokenPipeError:
        return StorageError.exit_code  # Helm has closed the pipe
    except Error as error:
        return _failed(error, url)
    except OSError as error:
        from ..files import storage_error  # late: only errors need it

        return _failed(storage_error(error, str(error.filename or "stdout")), url)
    except (MemoryError, RuntimeError, ImportError) as error:
        refused = resource_error(error)
        if refused is None:
            raise
        return _failed(refused, url)
    return 0


def content(url: str, ca_file: str | None = None) -> bytes:
    """Return the content of an address.

    Raises:
        Error: the address is invalid, or the content cannot be fetched or is invalid.
    """
    address = parse(url)
    if isinstance(address, ChartAddress):  # it is often cached, so its registry is not connected in advance
        with _client(ca_file) as client:
            return _chart(client, address)
    from .charts import build_index, kept_index  # late: only indexes need it

    with suppress(StorageError):  # without a cache directory there is no cached index
        found = kept_index(Records(cache_root(None), "indexes"), str(Host.parse(address.host)), address.path)
        if found is not None:
            return found
    first = f"{address.host}/{address.path or 'x'}"
    with _client(ca_file, first) as client:
        return build_index(client, client.repository(Reference.parse(first)).reference, address.path)


def _chart(client: Session, address: ChartAddress) -> bytes:
    from ..client.fetch import payload  # late: a cached index does not need it
    from ..client.resolve import Wanted  # late: a cached index does not need it
    from ..verify.gate import gate  # late: a cached index does not need it
    from .charts import FRESH  # late: a cached index does not need it

    check = gate()
    kept = Records(client.cache.root, "tags")
    for number, reference in enumerate(address.references, start=1):
        bound = client.repository(reference).reference
        key = f"{bound} {address.version or ''}"
        found = kept.get(key)
        try:
            if found is not None and found.age < FRESH and isinstance(found.data, str):
                # Use the recently resolved digest: Helm often requests the same chart several times, and then its provenance file.
                return payload(client, Wanted(Reference.parse(found.data)), provenance=address.provenance, gate=check)[0]
            wanted, is_last = Wanted(reference, address.version), number == len(address.references)
            raw, pinned = payload(client, wanted, provenance=address.provenance, hints=is_last, gate=check)
        except NotFoundError as error:
            if number == len(address.references) or error.code not in ("repository-not-found", "tag-not-found"):
                raise
        else:
            kept.put(key, str(replace(pinned, tag=None)))
            return raw
    raise AssertionError("every chart address has at least one reference")


def _client(ca_file: str | None, asked: str | None = None) -> Session:
    """Return a session. While it loads, it connects to the registry of a reference, if there is one."""
    from ..endpoint import Preference  # late: a cached index does not need it
    from ..remote.limits import DEFAULT_JOBS  # late: a cached index does not need it
    from ..remote.preconnect import ConnectionSetups  # late: a cached index does not need it

    preference = Preference.from_environment(os.environ)
    ways = ConnectionSetups(ca_file, DEFAULT_JOBS)
    if asked is not None:
        ways.preconnect(asked, preference)
    from ..client.session import Session, SessionOptions  # late: a cached index does not need it

    return Session(SessionOptions(preference, ca_file=ca_file, notice=False), StderrProgress(), ways)


class StderrProgress(Silent):
    """Prints notes and warnings to stderr, one line each, without a progress display. Helm shows stderr to the user."""

    def note(self, text: str) -> None:
        _say(text)

    def warn(self, text: str) -> None:
        _say(f"warning: {text}")


def _failed(error: Error, url: str) -> int:
    hint = _HINTS.get(error.code) or error.hint
    for option, words in _OPTIONS.items():
        hint = hint.replace(option, words)
    edge = error.context.get("msedge_ref")
    about = f"{error.message}{f' (X-Msedge-Ref: {edge})' if edge else ''}"
    _say(f"{redacted(url)}: {about}; hint: {hint}")
    return error.exit_code


def _say(text: str) -> None:
    try:
        sys.stderr.write(f"marfetch: {printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
