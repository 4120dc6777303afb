"""The grammar of references (distribution-spec, "Pulling manifests") as properties."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marfetch.errors import Error
from marfetch.oci import Digest
from marfetch.reference import Host, Pasted, Reference

parts = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,3}", fullmatch=True)
repositories = st.lists(parts, min_size=1, max_size=5).map("/".join).filter(lambda text: len(text) <= 255)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)
digests = st.binary(min_size=1).map(Digest.of) | st.binary(min_size=1).map(lambda data: Digest.of(data, "sha512"))
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=2, max_size=4).map(".".join) | st.sampled_from(["localhost", "127.0.0.1", "[::1]"])
hosts = st.builds(Host, names, st.none() | st.integers(1, 65535))


def is_plain(reference: Reference) -> bool:
    """Return whether a parser would not take the first part of the repository for a host."""
    first = reference.repository.partition("/")[0]
    return reference.host is not None or ("." not in first and first != "localhost")


references = st.builds(Reference, repositories, st.none() | hosts, st.none() | tags, st.none() | digests).filter(is_plain)


@pytest.mark.slow
@given(references)
def test_the_canonical_form_is_read_back_to_the_same_value(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@pytest.mark.slow
@given(references, st.sampled_from(["oci://", "mar://"]))
def test_a_scheme_in_front_changes_nothing(reference: Reference, scheme: str) -> None:
    assert Reference.parse(scheme + str(reference)) == reference


@given(st.text())
def test_any_text_is_read_or_refused_with_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(Error):
        reference = Pasted.parse(text).reference
        assert Reference.parse(str(reference)) == reference


@given(st.text(alphabet="abz019.:/@-_[]\\?#%AZ é\n", max_size=60))
def test_texts_that_look_like_references_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(Error):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference
