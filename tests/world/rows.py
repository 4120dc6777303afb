"""The matrix of faults: an id and a description for each row, and the mark that ties a test to a row.

`docs/reliability.md` is generated from these rows and marks, which are read from the source of the tests.
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
    "Y": "Recordings",
}
"""First letter of an id → heading of its table."""

ROWS: dict[str, str] = {
    "N01": "the connection closes in the middle of a body, at every try",
    "N02": "the connection closes in the middle of a body, once",
    "N03": "a TCP reset in the middle of a body, which can be resumed by a range",
    "N04": "the server ignores the range and returns 200 with the whole body",
    "N05": "a 206 with a wrong start, without or with a multipart `Content-Range`, or with other bytes",
    "N06": "the content has another `ETag` at the next try",
    "N07": "416 for the missing bytes of a body",
    "N08": "a reset after every part of the body; a reset at the same byte each time",
    "N09": "a reset or a close before the first byte",
    "N10": "a body stalls, once or at each try",
    "N11": "one byte at a time, in the body or in the headers",
    "N12": "endless `1xx` responses, headers or trailers",
    "N13": "not HTTP; a header of 1 MiB; two lengths; a length and chunks; invalid lengths and chunk sizes",
    "N14": "no host, no name, a refused port, no TLS, an expired certificate, a wrong clock",
    "N15": "proxies: used, bypassed, with credentials, failing",
    "S01": "429 with seconds, a date, a past date, nothing, junk",
    "S02": "429 for a day, or at every try",
    "S03": "a temporary failure: 503, 502 in HTML, 500, 408",
    "S04": "503 at every try",
    "S05": "404 for a repository, a tag, a blob",
    "S06": "403 with the block page of a CDN or firewall",
    "S07": "an error text with escape sequences and a forged line",
    "S08": "unexpected statuses: 200 with an error document, 204, 304, 418, 666",
    "S09": "an endless error body",
    "A01": "an anonymous token from the registry's own realm",
    "A02": "a realm on another host, at a metadata address, or by http",
    "A03": "401 at every try, and challenges that cannot be met",
    "A04": "credentials and cookies in requests to a data host",
    "R01": "a redirect to a data host that is allowed; relative; a chain",
    "R02": "a loop, no `Location`, junk, 300, other schemes",
    "R03": "a host that is not allowed: for a blob, a manifest, at the second hop",
    "R04": "addresses that look like an allowed one",
    "R05": "IP addresses, a trailing dot, the bare domain of the data hosts",
    "R06": "a redirect from https to http; a data host with a bad certificate",
    "B01": "wrong bytes: altered, swapped, a web page, none",
    "B02": "a body shorter or longer than its descriptor says",
    "B03": "an endless body; 1 PiB announced; 1 PiB in the descriptor",
    "B04": "`Content-Encoding` on a blob; a compression bomb",
    "B05": "a wrong digest header; a pinned manifest with other bytes",
    "B06": "a tag moves between two requests",
    "M01": "a manifest of 64 MiB, or an endless one",
    "M02": "malformed or hostile JSON",
    "M03": "schema version 1 or 99; media types that disagree; layers and manifests",
    "M04": "null, a list, nothing, a web page; layers that are missing, of another type, or too many",
    "M05": "invalid sizes",
    "M06": "invalid digests",
    "M07": "indexes that are nested, cyclic, or wide",
    "M08": "`urls` and `data` in a descriptor",
    "M09": "withdrawn manifest formats",
    "P01": "titles that lead out of the destination",
    "P02": "titles that are not texts, too long, or with control characters",
    "P03": "titles that mean something else on another system",
    "P04": "two payloads whose names clash on some system",
    "P05": "an unpack annotation on an archive with links",
    "P06": "the directory is a link, or is replaced by one during the run",
    "C01": "members that lead out of the directory",
    "C02": "links, devices, modes, too long paths",
    "C03": "archives that are too large or too deep, with too many members or duplicate names",
    "C04": "another chart than the requested one, or no chart",
    "C05": "YAML bombs, tags, escape sequences",
    "C06": "templates that never end, or that cannot be evaluated",
    "T01": "2,500 tags in pages; null; tags that are not versions",
    "T02": "pages in a loop, endless pages",
    "T03": "a `Link` to another host, to another repository, or malformed",
    "T04": "invalid tags, duplicates, too many; a page of 256 MiB, HTML, a text",
    "V01": "no signatures; referrers that are not available",
    "V02": "10,000 signatures; pages in a loop",
    "V03": "a signature for something else; a tag that moves after the verification",
    "V04": "expired, revoked, without a timestamp; a wrong clock",
    "V05": "a trust policy that is missing, unknown, or permissive",
    "V06": "envelopes that are too large, too deep, or wrong",
    "L01": "a cache entry whose content does not match its name",
    "L02": "a cache that is read-only, missing, of another user, or writable for everyone",
    "L03": "an index of the cache that is truncated, newer, or junk",
    "L04": "an edited lock",
    "L05": "a tag that has another digest than the lock says",
    "L07": "a crash between two artifacts of one lock or bundle",
    "L08": "unusual versions",
    "U01": "a bundle with missing, extra or swapped content",
    "U02": "a bundle whose archive is hostile, ambiguous, or truncated",
    "U03": "two bundles of the same content",
    "U04": "a bundle that is replaced while it is served",
    "F01": "a full disk at every step",
    "F02": "other failures of the disk, of permissions and of limits",
    "F03": "the process is killed at every step",
    "F04": "signals at any moment",
    "F05": "stdout or stderr closed, broken, full; unusual terminals and locales",
    "F06": "many processes for the same content; one is killed",
    "F07": "unusual home directories, current directories, umasks and users",
    "F08": "little memory, one processor, limited file sizes",
    "X01": "invalid references",
    "X02": "an unusual environment of the Helm plugin",
    "W01": "requests to `serve` that no client should send",
    "W02": "`serve` is stopped under load",
    "Y01": "wrong bytes from the registry while a command is recorded",
    "Y02": "a replayed command asks for something else than the recorded one",
    "Y03": "the registry fails while a command is recorded",
    "Y04": "a signal, or the time limit, while a command runs",
    "Y05": "a disk that is full when a recording is written",
    "Y06": "requests that a proxy must not pass on",
    "Y07": "a recording that was changed",
}


def row(id: str, happens: str, does: str, *, code: int | tuple[int, ...] | None = None) -> pytest.MarkDecorator:  # noqa: A002 - the argument is the id of a row
    """Mark a test as the proof of a row. A test may prove several rows, and a row may have several tests.

    All arguments must be constants, because the documentation is generated without running the tests.

    Args:
        happens: the fault of this test, in a few words.
        does: how marfetch reacts, as a sentence without its subject.
        code: the expected exit code, or one for each case of the test. A command of the test must end with one of
            them. None if no command ends.
    """
    assert id in ROWS, id
    return pytest.mark.row(id, happens, does, code)


@dataclass(frozen=True)
class Proof:
    """A `row` mark on a test.

    Attributes:
        module, test: file name and function name of the test.
    """

    id: str
    happens: str
    does: str
    code: int | tuple[int, ...] | None
    module: str
    test: str


def proofs() -> Iterator[Proof]:
    """Read all marks from the source of the tests, in the order of the rows and then of the tests."""
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
