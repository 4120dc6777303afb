"""Comparison of ranges with the real Masterminds/semver, and properties of all ranges and versions."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marfetch.constraint import Constraint, read_version, sort_versions
from marfetch.errors import InputError

numbers = st.sampled_from(["0", "1", "2", "3", "10", "11", "007", "18446744073709551615", "18446744073709551616"]) | st.integers(0, 40).map(
    str
)
identifiers = st.sampled_from(["0", "1", "10", "01", "alpha", "rc", "x", "-", "a-b", "99999999999999999999999"])
suffixes = st.lists(identifiers, min_size=1, max_size=3).map(".".join)
partial = st.lists(numbers | st.sampled_from(["x", "X", "*", "|", "xx", "1|2"]), min_size=1, max_size=4).map(".".join)
operands = st.builds(
    lambda v, core, pre, build: v + core + (f"-{pre}" if pre else "") + (f"+{build}" if build else ""),
    st.sampled_from(["", "", "v"]),
    partial,
    st.none() | suffixes,
    st.none() | suffixes,
)
spaces = st.sampled_from(["", "", " ", "  ", "\t"])
operators = st.sampled_from(["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^", "==", "<>", "~^"])
comparisons = st.builds(lambda s, op, t, v: s + op + t + v, spaces, operators, spaces, operands)
hyphens = st.builds(lambda a, s, t, b: f"{a}{s}-{t}{b}", operands, spaces, spaces, operands)
groups = st.builds(
    lambda items, joint: joint.join(items), st.lists(comparisons | hyphens, min_size=1, max_size=3), st.sampled_from([" ", ", ", ",", ",,"])
)
ranges = st.lists(groups, min_size=1, max_size=3).map("||".join) | st.text(alphabet="0123x*.-+v=<>~^|, \tab", max_size=20)
versions = st.builds(
    lambda core, pre, build: core + (f"-{pre}" if pre else "") + (f"+{build}" if build else ""),
    st.lists(numbers, min_size=3, max_size=3).map(".".join),
    st.none() | suffixes,
    st.none() | suffixes,
)


@pytest.fixture(scope="module")
def oracle(tool: Callable[[str], Path]) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Return a function that evaluates a range with the library that Helm uses."""
    process = subprocess.Popen([tool("semver-oracle")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        return cast("dict[str, Any]", json.loads(stdout.readline()))

    yield ask
    stdin.close()
    process.wait(10)
    stdout.close()


@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=ranges, candidates=st.lists(versions, max_size=12))
def test_the_library_that_helm_uses_gives_the_same_answer(
    oracle: Callable[[dict[str, Any]], dict[str, Any]], text: str, candidates: list[str]
) -> None:
    expected = oracle({"constraint": text, "versions": candidates})
    try:
        constraint = Constraint.parse(text)
    except InputError:
        assert not expected["valid"]
        return
    assert expected["valid"]
    strict = [one for one in candidates if (read := read_version(one)) is not None and read.is_strict]
    assert [one for one in strict if constraint.allows(one)] == expected["matches"]


@pytest.mark.slow
@given(st.text(max_size=600))
def test_any_text_is_a_range_or_is_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        Constraint.parse(text)


@given(st.lists(versions, max_size=30), ranges)
def test_the_newest_is_the_first_of_the_sorted_ones(tags: list[str], text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except InputError:
        return
    chosen = [version.tag for version in constraint.select(sort_versions(tags))]
    assert constraint.newest(tags) == (chosen[0] if chosen else None)


@given(st.lists(versions, min_size=1, max_size=20))
def test_the_order_does_not_depend_on_the_order_of_the_list_but_for_equals(tags: list[str]) -> None:
    keys = [version.key for version in sort_versions(tags)]
    assert keys == sorted(keys, reverse=True)
    assert keys == [version.key for version in sort_versions(reversed(tags))]
