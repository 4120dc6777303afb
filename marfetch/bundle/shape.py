"""Which files a bundle has, and how its archive is written: what has no place in it, stands elsewhere or is written otherwise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..files import storage_error
from ..layout.readonly import ReadonlyTar
from ..oci import Digest
from ..tar import BLOCK, members
from .findings import CheckResult
from .format import FIRST, LOCK_FILE, MAX_RECORD_SIZE, RECORD_FILE, ending, header
from .opened import Opened


def check_files(found: Opened, checked: CheckResult) -> None:
    """Whether the files beside the blobs are those that the record names, and no others."""
    record = found.record
    if record is None:
        checked.add("missing", RECORD_FILE, "every bundle has it" if found.is_bundle else "this is no bundle of marfetch")
    wanted = set(FIRST) - {RECORD_FILE}
    for name in sorted(set(record.files if record is not None else ()) - wanted):
        checked.add("extra", name, f"`{RECORD_FILE}` names it, and no bundle has it")
    for name in sorted(wanted):
        data = found.store.document(name, MAX_RECORD_SIZE)
        if data is None:
            checked.add("missing", name, "every bundle has it")
        elif record is None:
            if name == LOCK_FILE and found.unread is not None:
                checked.add("wrong", name, found.unread.message)
        elif name not in record.files:
            checked.add("wrong", RECORD_FILE, f"it does not say what `{name}` is")
        elif Digest.of(data) != record.files[name]:
            checked.add("wrong", name, f"its digest is `{Digest.of(data)}`, not the `{record.files[name]}` of `{RECORD_FILE}`")
    if found.is_bundle:
        for name in _names(found):
            if name not in FIRST and blob_of(name) is None:
                checked.add("extra", name, "no bundle has such a file")


def held(found: Opened) -> Iterator[Digest]:
    """The blobs that are there, whether anything names them or not."""
    for name in _names(found):
        digest = blob_of(name)
        if digest is not None:
            yield digest


def _names(found: Opened) -> Iterator[str]:
    """Everything in an archive or a folder that is no directory in which blobs may lie."""
    if isinstance(found.store, ReadonlyTar):
        yield from found.store.members
        return
    for path in _below(found.path):
        if path.name == "blobs" and path.is_dir():
            for algorithm in _below(path):
                if algorithm.is_dir():
                    yield from (f"blobs/{algorithm.name}/{blob.name}" for blob in _below(algorithm))
                else:
                    yield f"blobs/{algorithm.name}"
        else:
            yield f"{path.name}/" if path.is_dir() else path.name


def _below(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise storage_error(error, path) from error


def blob_of(name: str) -> Digest | None:
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except InputError:
        return None


def check_form(store: ReadonlyTar, checked: CheckResult, budget: Callable[[], None]) -> None:
    """Whether the archive is, byte for byte, what `form.write_archive` makes of its files; each member is judged by itself."""
    known = [name for name in store.members if name in FIRST or blob_of(name) is not None]
    for name in _out_of_order(known):
        checked.add("wrong", name, "it stands elsewhere in the archive than it belongs")
    raw, position = store.raw(), 0
    for member in members(raw.file, str(store.root), directories=True):
        budget()
        position = member.offset + member.size + -member.size % BLOCK
        if member.is_directory:
            checked.add("extra", f"{member.name}/", "no bundle has a directory")
            continue
        if raw.read(member.begin, member.offset - member.begin) != header(member.name, member.size):
            checked.add("wrong", member.name, "its header in the archive is not as marfetch writes it")
        end = member.offset + member.size
        if raw.read(end, position - end).strip(b"\x00"):
            checked.add("wrong", member.name, "something stands behind it in the archive")
    if raw.size - position > 1 << 20 or raw.read(position, raw.size - position) != ending(position):
        checked.add("wrong", store.root, "the end of the archive is not as marfetch writes it")


def _out_of_order(names: Sequence[str]) -> list[str]:
    """The fewest names without which the others stand in their order."""
    places = [(FIRST.index(name) if name in FIRST else len(FIRST), name) for name in names]
    ends: list[int] = []  # of the shortest end of an ordered run of each length, where it stands
    before: list[int | None] = []
    for number, place in enumerate(places):
        length = bisect_left(ends, place, key=lambda one: places[one])
        before.append(ends[length - 1] if length else None)
        ends[length : length + 1] = [number]
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [name for number, name in enumerate(names) if number not in kept]
