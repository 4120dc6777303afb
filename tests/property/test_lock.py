"""Properties of the lock: it round-trips, order does not matter, and every changed byte is detected."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marfetch.document import Json
from marfetch.errors import Error
from marfetch.oci import OCI_MANIFEST, Descriptor, Digest
from marfetch.project.lockfile import Entry, LockedLayer, Verification, lock_bytes, make_lock, parse_lock
from marfetch.reference import Host, Reference

PATH = Path("marfetch.lock")

digests = st.binary(min_size=1, max_size=8).map(Digest.of)
sizes = st.integers(0, (1 << 63) - 1)
blobs = st.builds(Descriptor, st.sampled_from(["application/x.y", "text/plain", "a/b+c"]), digests, sizes)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tags = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")
json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    manifest = Descriptor(OCI_MANIFEST, draw(digests), draw(sizes))
    repository = "/".join(draw(st.lists(st.from_regex(r"\A[a-z0-9]{1,8}\Z"), min_size=1, max_size=3)))
    reference = Reference(repository, Host("mcr.microsoft.com"), draw(st.none() | tags), manifest.digest)
    return Entry(
        draw(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,8}\Z")),
        reference,
        manifest,
        draw(blobs),
        tuple(draw(st.lists(st.builds(LockedLayer, blobs, st.none() | texts), max_size=3))),
        "chart",
        draw(texts),
        draw(st.none() | texts),
        draw(st.none() | texts),
        None,
        tuple(draw(st.lists(blobs, max_size=2))),
        draw(st.dictionaries(texts, json_values, max_size=3)),
        draw(st.none() | st.builds(Verification, texts, st.dictionaries(texts, json_values, max_size=2))),
    )


locks = st.lists(entries(), max_size=5, unique_by=lambda entry: entry.name)


@pytest.mark.slow
@given(locks)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_back(found: list[Entry]) -> None:
    lock = make_lock(found)
    read = parse_lock(lock_bytes(lock), PATH)
    assert read == lock
    assert lock_bytes(read) == lock_bytes(lock)


@pytest.mark.slow
@given(locks, st.randoms())
@settings(max_examples=50, deadline=None)
def test_order_says_nothing(found: list[Entry], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert lock_bytes(make_lock(shuffled)) == lock_bytes(make_lock(found))
    document = json.loads(lock_bytes(make_lock(found)))
    document["artifacts"] = document["artifacts"][::-1]
    assert parse_lock(json.dumps(document).encode(), PATH) == make_lock(found)


@pytest.mark.slow
@given(locks.filter(bool), st.data())
@settings(max_examples=150, deadline=None)
def test_no_change_of_a_byte_is_taken_for_something_else(found: list[Entry], data: st.DataObject) -> None:
    raw = bytearray(lock_bytes(make_lock(found)))
    # Skip the header: the name of the tool may change without making the lock invalid.
    begin = raw.index(b'"artifacts"')
    raw[data.draw(st.integers(begin, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = parse_lock(bytes(raw), PATH)
    except Error:
        return
    assert read.entries == make_lock(found).entries


@pytest.mark.slow
@given(locks, locks)
@settings(max_examples=50, deadline=None)
def test_two_locks_put_together_by_their_entries_are_a_lock(one: list[Entry], other: list[Entry]) -> None:
    """A merge without conflicts combines whole entries of both branches."""
    merged = {entry.name: entry for entry in (*one, *other)}
    documents = [json.loads(lock_bytes(make_lock(entries))) for entries in (one, other)]
    taken = {value["name"]: value for document in documents for value in document["artifacts"]}
    documents[0]["artifacts"] = list(taken.values())
    assert parse_lock(json.dumps(documents[0]).encode(), PATH) == make_lock(merged.values())


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_lead_to_anything_but_an_error_of_ours(raw: bytes) -> None:
    with contextlib.suppress(Error):
        parse_lock(raw, PATH)
