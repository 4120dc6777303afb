"""Copying content: only bytes that match their descriptor are accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from marfetch.content import BlobRange, BlobReader, Buffer, Silent, Source, Target, Verified, copy, read
from marfetch.errors import IntegrityError, PolicyError, RemoteError
from marfetch.layout.layout import Layout
from marfetch.oci import Descriptor, Digest, Index, Manifest
from marfetch.reference import Reference

REFERENCE = Reference.parse("mcr.microsoft.com/aks/foo:1")


def describe(data: bytes, *, size: int | None = None, algorithm: str = "sha256") -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data, algorithm), len(data) if size is None else size)


class Given:
    """A source with prepared answers: one list of chunks per request."""

    def __init__(self, *answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        return self.read

    @contextmanager
    def read(self, start: int) -> Iterator[BlobRange]:
        pieces = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        yield BlobRange(0, pieces)

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        raise NotImplementedError

    def tags(self, reference: Reference) -> list[str]:
        raise NotImplementedError

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        raise NotImplementedError

    def repositories(self) -> list[str]:
        raise NotImplementedError


class Broken(Given):
    """A source whose responses are cut, except the last one.

    Attributes:
        starts: the offsets that were requested.
    """

    def __init__(self, *answers: Sequence[bytes], passes: bool = True) -> None:
        super().__init__(*answers)
        self.passes = passes
        self.starts: list[int] = []

    @contextmanager
    def read(self, start: int) -> Iterator[BlobRange]:
        self.starts.append(start)
        pieces = self.answers[self.asked]
        self.asked += 1
        try:
            yield BlobRange(start, self.pieces(pieces, start))
        except RemoteError:
            if not self.passes:
                raise

    def pieces(self, pieces: Sequence[bytes], start: int) -> Iterator[bytes]:
        yield from pieces
        if start + sum(map(len, pieces)) < 5:
            raise RemoteError("it was cut", code="cut")


class Beside:
    """A second sink, which gets the same bytes as the target."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: Buffer) -> None:
        self.data += data

    def restart(self) -> None:
        self.data = b""


def bring(source: Source, target: Target, descriptor: Descriptor) -> bool:
    return copy(source, target, REFERENCE, descriptor, name="it", progress=Silent())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def left(layout: Layout) -> list[str]:
    return sorted(path.name for path in (layout.root / "ingest").iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_committed_when_size_and_digest_agree(layout: Layout, algorithm: str) -> None:
    descriptor = describe(b"hello", algorithm=algorithm)
    assert bring(Given([b"he", b"llo"]), layout, descriptor)
    assert layout.path(descriptor.digest).read_bytes() == b"hello"
    assert left(layout) == []


def test_a_blob_in_the_cache_is_not_requested(layout: Layout) -> None:
    source = Given([b"hello"])
    descriptor = describe(b"hello")
    bring(source, layout, descriptor)
    assert not bring(source, layout, descriptor)
    assert source.asked == 1


@pytest.mark.parametrize("data", [b"{}", b""])
def test_content_that_everybody_knows_is_not_asked_for(layout: Layout, data: bytes) -> None:
    source = Given([b"never"])
    bring(source, layout, describe(data))
    assert source.asked == 0
    assert layout.path(Digest.of(data)).read_bytes() == data


WRONG = {
    "other bytes": ([b"jello"], "digest-mismatch"),
    "one byte short": ([b"hell"], "size-mismatch"),
    "one byte more": ([b"hello!"], "size-mismatch"),
    "nothing": ([], "size-mismatch"),
    "no end": ([b"hello"] * 1000, "size-mismatch"),
}


@pytest.mark.parametrize(("pieces", "code"), WRONG.values(), ids=WRONG)
def test_wrong_bytes_are_refused_and_nothing_stays(layout: Layout, pieces: list[bytes], code: str) -> None:
    descriptor = describe(b"hello")
    source = Given(pieces)
    with pytest.raises(IntegrityError) as caught:
        bring(source, layout, descriptor)
    assert caught.value.code == code
    assert not layout.path(descriptor.digest).exists()
    assert left(layout) == []
    assert source.asked == 1


def test_a_source_that_never_ends_is_stopped_at_the_size() -> None:
    taken = 0

    class Endless(Given):
        @contextmanager
        def read(self, start: int) -> Iterator[BlobRange]:
            yield BlobRange(start, self.pieces())

        def pieces(self) -> Iterator[bytes]:
            nonlocal taken
            while True:
                yield b"x" * 10
                taken += 10

    with pytest.raises(IntegrityError, match="longer than the 5 bytes"):
        read(Endless(), REFERENCE, describe(b"hello"))
    assert taken == 0


def test_wrong_bytes_that_were_pieced_together_get_one_fresh_try(layout: Layout, tmp_path: Path) -> None:
    descriptor = describe(b"hello")
    other = Layout(tmp_path / "other")
    bring(Given([b"hello"]), other, descriptor)
    part = layout.root / "ingest" / f"sha256-{descriptor.digest.encoded}"
    part.write_bytes(b"ja")
    assert bring(other, layout, descriptor)
    assert layout.path(descriptor.digest).read_bytes() == b"hello"


def test_a_descriptor_beyond_every_artifact_is_refused_before_anything_is_asked(layout: Layout) -> None:
    source = Given([b"hello"])
    with pytest.raises(PolicyError) as caught:
        bring(source, layout, describe(b"hello", size=2**50))
    assert caught.value.code == "limit-passed"
    assert source.asked == 0


def test_a_wrong_size_in_a_descriptor_takes_no_good_blob_away(layout: Layout) -> None:
    descriptor = describe(b"hello")
    bring(Given([b"hello"]), layout, descriptor)
    with pytest.raises(IntegrityError) as caught:
        bring(Given([b"hello"]), layout, describe(b"hello", size=6))
    assert caught.value.code == "size-mismatch"
    assert layout.has(descriptor)


def test_a_cut_transfer_leaves_its_bytes_for_the_next_run(layout: Layout) -> None:
    descriptor = describe(b"hello")
    with pytest.raises(RemoteError):
        bring(Broken([b"hel"], passes=False), layout, descriptor)
    assert left(layout) == [f"sha256-{descriptor.digest.encoded}"]
    rest = Broken([b"lo"])
    assert bring(rest, layout, descriptor)
    assert rest.starts == [3]
    assert left(layout) == []


def test_after_a_temporary_cut_the_download_resumes(layout: Layout) -> None:
    descriptor = describe(b"hello")
    source = Broken([b"h", b"e"], [b"l"], [b"lo"])
    assert bring(source, layout, descriptor)
    assert source.starts == [0, 2, 3]
    assert layout.path(descriptor.digest).read_bytes() == b"hello"


def test_a_rest_that_does_not_fit_is_read_anew_from_the_first_byte_once(layout: Layout) -> None:
    descriptor = describe(b"hello")
    source = Broken([b"hel"], [b"LO"], [b"hello"])
    assert bring(source, layout, descriptor)
    assert source.starts == [0, 3, 0]
    with pytest.raises(IntegrityError, match="digest"):
        bring(Broken([b"yel"], [b"lo"], [b"yello"]), layout, describe(b"other"))
    assert left(layout) == []


def test_another_place_gets_the_same_bytes_unless_some_were_there_before(layout: Layout) -> None:
    beside = Beside()
    descriptor = describe(b"hello")
    copy(Broken([b"hel"], [b"LO"], [b"he", b"llo"]), layout, REFERENCE, descriptor, name="it", progress=Silent(), beside=beside)
    assert beside.data == b"hello"
    descriptor = describe(b"world")
    with pytest.raises(RemoteError):
        bring(Broken([b"wo"], passes=False), layout, descriptor)
    beside = Beside()
    copy(Broken([b"rld"]), layout, REFERENCE, descriptor, name="it", progress=Silent(), beside=beside)
    assert beside.data == b""


def test_a_large_blob_is_hashed_and_written_beside_reading(layout: Layout) -> None:
    piece = bytes(range(256)) * 4096
    data = piece * 12
    descriptor = describe(data)
    assert bring(Given([piece] * 12), layout, descriptor)
    assert layout.path(descriptor.digest).stat().st_size == len(data)
    with pytest.raises(IntegrityError, match="digest"):
        bring(Given([piece] * 11 + [b"\0" * len(piece)]), layout, Descriptor("a/b", Digest.of(b"another"), len(data)))
    with pytest.raises(IntegrityError, match="longer"):
        bring(Given([piece] * 100), layout, Descriptor("a/b", Digest.of(b"a third"), len(data)))
    assert left(layout) == []


def test_small_content_is_read_into_memory_and_checked() -> None:
    assert read(Given([b"he", b"llo"]), REFERENCE, describe(b"hello")) == b"hello"
    with pytest.raises(IntegrityError):
        read(Given([b"jello"]), REFERENCE, describe(b"hello"))


def test_small_content_is_read_on_after_a_cut_and_anew_after_a_wrong_rest() -> None:
    source = Broken([b"hel"], [b"LO"], [b"he", b"llo"])
    assert read(source, REFERENCE, describe(b"hello")) == b"hello"
    assert source.starts == [0, 3, 0]


def test_the_message_of_a_mismatch_has_both_digests() -> None:
    verified = Verified(describe(b"hello"))
    verified.update(b"jello")
    with pytest.raises(IntegrityError) as caught:
        verified.check()
    assert caught.value.context == {"expected": str(Digest.of(b"hello")), "actual": str(Digest.of(b"jello"))}
    assert str(Digest.of(b"hello")) in caught.value.message
