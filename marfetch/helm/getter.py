"""The getter: what Helm starts for each `mar://` address. Its answer goes to stdout once, whole and checked, or not at all.

Helm calls it with the certificate, key and CA files of the repository and the address, takes what it prints for the content, and an
exit code of 0 for success, whatever was printed. There is no time-out around it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..content import Silent
from ..errors import Error, Interrupted, NotFoundError, StorageError
from ..layout.cache import cache_root
from ..records import Records
from ..reference import Host, Reference
from ..text import printable, redacted
from .address import ChartAddress, IndexAddress, parse

if TYPE_CHECKING:
    from ..client.session import Session

_HINTS: Final = {
    "kind-refused": "Helm takes charts; fetch anything else with `marfetch pull`, and see what it is with `marfetch inspect`",
    "dangling-tag": "ask for another version; `helm search repo --versions` lists them",
    "usage": "name a file that is there with Helm's `--ca-file`",
}
_OPTIONS: Final = {
    "`--endpoint https://": "`MARFETCH_ENDPOINT=https://",
    "`--endpoint`": "`MARFETCH_ENDPOINT`",
    "`--data-host ": "`MARFETCH_DATA_HOSTS=",
    "`--data-host`": "`MARFETCH_DATA_HOSTS`",
    "`--cache-dir`": "`MARFETCH_CACHE_DIR`",
    "`--destination` or ": "",
    " A longer `--timeout` lets marfetch wait": "",
}
"""What a hint calls an option of ours is an environment variable here: Helm hands no options on."""


def main(arguments: Sequence[str]) -> int:
    """Answer one call of Helm.

    Args:
        arguments: CERT, KEY and CA file (each may be empty) and the address, as the last four.

    Returns:
        0 when the whole content was written to stdout; otherwise the exit code of the error, which is said in one line on stderr.
    """
    url = arguments[-1] if arguments else ""
    ca_file = arguments[-2] if len(arguments) >= 4 and arguments[-2] else None
    if any(arguments[-4:-2]):
        _say("warning: client certificates are not used: MAR asks for none")
    try:
        data = content(url, ca_file)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except BrokenPipeError:
        return StorageError.exit_code  # Helm is gone
    except Error as error:
        return _failed(error, url)
    except OSError as error:
        from ..files import storage_error  # late: only in a failure

        return _failed(storage_error(error, str(error.filename or "stdout")), url)
    return 0


def content(url: str, ca_file: str | None = None) -> bytes:
    """The content behind an address.

    Raises:
        Error: it cannot be had, or is not what it should be.
    """
    address = parse(url)
    if isinstance(address, IndexAddress):
        from .charts import kept_index  # late: only for an index

        with suppress(StorageError):  # where there is no place for a cache, nothing is kept in it
            found = kept_index(Records(cache_root(None), "indexes"), str(Host.parse(address.host)), address.path)
            if found is not None:
                return found
    with _client(ca_file) as client:
        if isinstance(address, IndexAddress):
            from .charts import build_index  # late: only for an index

            bound = client.repository(Reference.parse(f"{address.host}/{address.path or 'x'}")).reference
            return build_index(client, bound, address.path)
        return _chart(client, address)


def _chart(client: Session, address: ChartAddress) -> bytes:
    from ..client.fetch import payload  # late: only where the cache had no answer
    from ..client.resolve import Wanted  # late: only where the cache had no answer
    from ..verify.gate import gate  # late: only where the cache had no answer
    from .charts import FRESH  # late: only where the cache had no answer

    check = gate()
    kept = Records(client.cache.root, "tags")
    for number, reference in enumerate(address.references, start=1):
        bound = client.repository(reference).reference
        key = f"{bound} {address.version or ''}"
        found = kept.get(key)
        try:
            if found is not None and found.age < FRESH and isinstance(found.data, str):
                # Helm asks for a chart and its provenance one after the other, and often for one chart several times.
                return payload(client, Wanted(Reference.parse(found.data)), provenance=address.provenance, gate=check)[0]
            wanted, is_last = Wanted(reference, address.version), number == len(address.references)
            raw, pinned = payload(client, wanted, provenance=address.provenance, hints=is_last, gate=check)
        except NotFoundError as error:
            if number == len(address.references) or error.code not in ("repository-not-found", "tag-not-found"):
                raise
        else:
            kept.put(key, str(replace(pinned, tag=None)))
            return raw
    raise AssertionError("an address has a reference")


def _client(ca_file: str | None) -> Session:
    from ..client.session import Session, SessionOptions  # late: only where the cache had no answer
    from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT, Preference  # late: only where the cache had no answer

    preference = Preference(None, os.environ.get(ENVIRONMENT) or None, (), os.environ.get(DATA_ENVIRONMENT))
    return Session(SessionOptions(preference, ca_file=ca_file, notice=False), StderrProgress())


class StderrProgress(Silent):
    """Says warnings and waits in one line each, and shows no progress: Helm passes stderr on to its user."""

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
