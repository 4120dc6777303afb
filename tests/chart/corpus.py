"""Reads `corpus.txt`: charts that name images as real charts do, each with the images that `helm template` renders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from ..world.archives import file, targz

TEXT: Final = Path(__file__).with_name("corpus.txt")
"""`=== NAME` begins a chart, `--- PATH` a file of it; `--- images` lists the images. Files below `charts/NAME.tgz/` are packed."""
_PACKED: Final = re.compile(r"(charts/[^/]+\.tgz)/")


class Example(NamedTuple):
    name: str
    files: dict[str, bytes]
    images: tuple[str, ...]

    def package(self) -> bytes:
        """The chart as `helm package` makes it."""
        return _pack(self.name, self.files)


def _pack(top: str, files: dict[str, bytes]) -> bytes:
    plain: dict[str, bytes] = {}
    packed: dict[str, dict[str, bytes]] = {}
    for path, raw in files.items():
        match = _PACKED.match(path)
        if match is None:
            plain[path] = raw
        else:
            packed.setdefault(match[1], {})[path[match.end() :]] = raw
    plain |= {path: _pack("sub", inner) for path, inner in packed.items()}
    return targz(*(file(f"{top}/{path}", raw) for path, raw in plain.items()))


def examples() -> list[Example]:
    found = []
    for part in re.split(r"^=== ", TEXT.read_text(), flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        files = dict(one.split("\n", 1) for one in re.split(r"^--- (?=\S+$)", rest, flags=re.MULTILINE)[1:])
        images = files.pop("images", "")
        found.append(Example(name, {path: text.encode() for path, text in files.items()}, tuple(images.split())))
    return found
