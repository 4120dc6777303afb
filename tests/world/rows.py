"""The matrix of faults: every row by its id, with what happens in it, and the mark by which a test says that it proves one.

`docs/reliability.md` is made of these rows and of the marks, by reading the tests without running them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CLASSES: dict[str, str] = {
    "N": "The network",
    "S": "Statuses",
    "A": "Authentication",
    "R": "Redirects",
    "B": "Bytes",
    "M": "Manifests",
    "P": "Paths",
    "C": "Charts and archives",
    "T": "Tag lists",
    "V": "Verification",
    "L": "Caches and locks",
    "U": "Bundles",
    "F": "The machine",
    "X": "Input",
    "W": "Serving",
}
"""First letter of an id → what the rows are about."""

ROWS: dict[str, str] = {
    "N01": "a body stops early and the connection is closed, at every try",
    "N02": "the same, once",
    "N03": "a TCP reset in mid-body; the rest is to be had by a range",
    "N04": "the range is ignored: 200 with the whole body",
    "N05": "a 206 with a wrong start, without or with a multipart `Content-Range`, or with other bytes",
    "N06": "the content has another `ETag` at the next try",
    "N07": "416 for the rest of a body",
    "N08": "a reset after every part of the body; a reset at the same byte each time",
    "N09": "a reset or a close before the first byte",
    "N10": "a body stalls, once or at each try",
    "N11": "one byte at a time, in the body or in the headers",
    "N12": "`1xx` answers, headers or trailers without end",
    "N13": "not HTTP; a header of 1 MiB; two lengths; a length and chunks; lengths and chunk sizes that are none",
    "N14": "no host, no name, a refused port, no TLS, an expired certificate, a wrong clock",
    "N15": "proxies: named, passed by, asking for credentials, dying",
    "S01": "429 with seconds, a date, a past date, nothing, junk",
    "S02": "429 for a day, or for ever",
    "S03": "a failure that passes: 503, 502 in HTML, 500, 408",
    "S04": "503 for ever",
    "S05": "404 for a repository, a tag, a blob",
    "S06": "403 with the page of a front door",
    "S07": "an error text with escapes and a line of its own",
    "S08": "statuses that have no place: 200 with an error document, 204, 304, 418, 666",
    "S09": "an error body without end",
    "A01": "an anonymous token from the registry's own realm",
    "A02": "a realm at another host, at a metadata address, by http",
    "A03": "401 for ever, and challenges that cannot be met",
    "A04": "credentials and cookies on the way to a data host",
    "R01": "a redirect to a data host that is allowed; relative; a chain",
    "R02": "a loop, no `Location`, junk, 300, other schemes",
    "R03": "a host that is not allowed: for a blob, a manifest, at the second hop",
    "R04": "addresses that look like an allowed one",
    "R05": "IP addresses, a trailing dot, the bare domain of the data hosts",
    "R06": "https that becomes http; a data host with a bad certificate",
    "B01": "wrong bytes: altered, swapped, a web page, none",
    "B02": "a body shorter or longer than its descriptor says",
    "B03": "a body without end; 1 PiB announced; 1 PiB in the descriptor",
    "B04": "`Content-Encoding` on a blob; a bomb",
    "B05": "a digest header that lies; a pinned manifest with other bytes",
    "B06": "a tag moves between two requests",
    "M01": "a manifest of 64 MiB, or without end",
    "M02": "JSON that no reader should take",
    "M03": "schema version 1 or 99; media types that disagree; layers and manifests",
    "M04": "null, a list, nothing, a web page; layers that are missing, of another type, or too many",
    "M05": "sizes that are none",
    "M06": "digests that are none",
    "M07": "indexes that are nested, cyclic, or wide",
    "M08": "`urls` and `data` in a descriptor",
    "P01": "titles that lead elsewhere",
    "P02": "titles that are no texts, too long, or with control characters",
    "P03": "titles that mean something else on another system",
    "P04": "two payloads that have one name somewhere",
    "P05": "an unpack annotation on an archive with links",
    "P06": "the directory is a link, or becomes one meanwhile",
    "C01": "members that lead elsewhere",
    "C02": "links, devices, modes, paths without end",
    "C03": "archives that are too large, too many, too deep, or that hold a name twice",
    "C04": "a chart that is another one, or none",
    "C05": "YAML bombs, tags, escapes",
    "T01": "2,500 tags in pages; null; versions that are none",
    "T02": "pages in a loop, pages without end",
    "T03": "a `Link` to another host, to another repository, or malformed",
    "T04": "tags that are none, twice, too many; a page of 256 MiB, HTML, a text",
    "V01": "no signatures; referrers that cannot be had",
    "V02": "10,000 signatures; pages in a loop",
    "V03": "a signature for something else; a tag that moves after the verification",
    "V04": "expired, revoked, without a timestamp; a wrong clock",
    "V05": "a trust policy that is missing, unknown, or permissive",
    "V06": "envelopes that are too large, too deep, or wrong",
    "L01": "a cache entry that is not what its name says",
    "L02": "a cache that is read-only, missing, of somebody else, or open to all",
    "L03": "an index of the cache that is half written, newer, or junk",
    "L04": "a lock that was edited",
    "L05": "a tag that has another digest than the lock says",
    "L07": "a crash between two artifacts of one lock or bundle",
    "L08": "versions of odd forms",
    "U01": "a bundle that lacks something, has more, or is swapped",
    "U02": "a bundle's archive that leads elsewhere, lies, or is cut",
    "U03": "two bundles of the same",
    "U04": "a bundle that is replaced while it is served",
    "F01": "a full disk at every step",
    "F02": "other failures of the disk, of rights and of limits",
    "F03": "the process is killed at every step",
    "F04": "signals at any moment",
    "F05": "stdout or stderr closed, broken, full; odd terminals and locales",
    "F06": "many processes for the same thing; one is killed",
    "F07": "odd homes, directories, masks and users",
    "F08": "little memory, one processor, short files",
    "X01": "references that are none",
    "X02": "odd surroundings of the Helm plugin",
    "W01": "requests that no client should send, to `serve`",
    "W02": "`serve` is ended under load",
}


def row(id: str, happens: str, does: str, *, code: int | tuple[int, ...] | None = None) -> pytest.MarkDecorator:  # noqa: A002 - it is one
    """Say that a test proves a row of the matrix; a test may prove several, and a row may have several tests.

    All arguments are constants, since the documentation reads them without running anything.

    Args:
        happens: the case of this test, in a few words.
        does: what marfetch does then.
        code: the exit code, or those of its cases; a command of the test must have ended with one of them. None: no command ends.
    """
    assert id in ROWS, id
    return pytest.mark.row(id, happens, does, code)


@dataclass(frozen=True)
class Proof:
    """A mark on a test.

    Attributes:
        module, test: where it stands.
    """

    id: str
    happens: str
    does: str
    code: int | tuple[int, ...] | None
    module: str
    test: str


def proofs() -> Iterator[Proof]:
    """All marks, in the order of the rows and of the tests; the tests are read, not run."""
    found = []
    for path in sorted(Path(__file__).parents[1].glob("*/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == row.__name__:
                    id_, happens, does = (ast.literal_eval(argument) for argument in mark.args)
                    codes = [ast.literal_eval(keyword.value) for keyword in mark.keywords]
                    found.append(Proof(id_, happens, does, codes[0] if codes else None, path.name, node.name))
    order = list(ROWS)
    yield from sorted(found, key=lambda proof: order.index(proof.id))
