"""Version ranges as in Helm, and tags that are versions."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from marfetch.constraint import ANY, ANY_OR_PRERELEASE, Constraint, distinct, exact_version, read_version, sort_versions, tag_of
from marfetch.errors import InputError

from .world.paths import FIXTURES

ROWS: list[dict[str, Any]] = [json.loads(line) for line in (FIXTURES / "constraints.jsonl").read_text().splitlines()]
VERSIONS: list[str] = ROWS[0]["versions"]


def test_the_vectors_are_all_there() -> None:
    assert len(ROWS) == 761


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: repr(row["constraint"]))
def test_helm_and_marfetch_give_one_answer(row: dict[str, Any]) -> None:
    if not row["valid"]:
        with pytest.raises(InputError) as caught:
            Constraint.parse(row["constraint"])
        assert caught.value.code == "constraint-invalid"
        return
    constraint = Constraint.parse(row["constraint"])
    expected = row.get("matches", [])
    assert [version.tag for version in constraint.select(sort_versions(VERSIONS))] == expected
    assert {version for version in VERSIONS if constraint.allows(version)} == set(expected)
    assert constraint.newest(VERSIONS) == (expected[0] if expected else None)


VERSION_OF = {
    "1.2.3": "1.2.3",
    "v2.9.0": "2.9.0",
    "0.4.023901": "0.4.23901",
    "v01.002.0003": "1.2.3",
    "1.9.1_build.5": "1.9.1+build.5",
    "1.0.0-preview4": "1.0.0-preview4",
    "0.53.0-0": "0.53.0-0",
    "3.2.0-main-05-24-2022-0c3a87bc": "3.2.0-main-05-24-2022-0c3a87bc",
    "3.0.20250910": "3.0.20250910",
    "v1.34.13-3-azlinux3-x86-64": "1.34.13-3-azlinux3-x86-64",
    "18446744073709551615.0.0": "18446744073709551615.0.0",
}

NO_VERSION = [
    "latest",
    "2024-01-02",
    "20240102",
    "3",
    "3.0",
    "1.2.3.4",
    "7.0-focal",
    "helm-v3.12.2-linux-amd64",
    "V1.2.3",
    "vv1.2.3",
    "1.2.x",
    "1.2.3-",
    "1.2.3-01",
    "1.2.3-a..b",
    "1.2.3_",
    "1.2.3_a_b",
    "18446744073709551616.0.0",
    "0" * 64,
    "",
    "1.2.3 ",
    "1.2.3\n",
    "١.٢.٣",
    "1.2.3-" + "a" * 260,
    "9" * 5000 + ".0.0",
]


@pytest.mark.parametrize(("tag", "version"), VERSION_OF.items(), ids=VERSION_OF)
def test_a_tag_that_is_a_version_is_read(tag: str, version: str) -> None:
    read = read_version(tag)
    assert read is not None
    assert str(read.version) == version
    assert read.tag == tag


@pytest.mark.parametrize("tag", NO_VERSION, ids=[repr(tag)[:30] for tag in NO_VERSION])
def test_other_tags_are_no_versions(tag: str) -> None:
    assert read_version(tag) is None
    assert not ANY_OR_PRERELEASE.allows(tag)


def test_the_order_is_that_of_semver_and_total() -> None:
    tags = ["1.0.0", "1.0.0-rc.1", "1.0.0-rc.10", "1.0.0-rc.2", "1.0.0-alpha", "1.0.0-1", "v2.0.0", "1.10.0", "1.9.0", "latest"]
    ordered = [version.tag for version in sort_versions(tags)]
    assert ordered == ["v2.0.0", "1.10.0", "1.9.0", "1.0.0", "1.0.0-rc.10", "1.0.0-rc.2", "1.0.0-rc.1", "1.0.0-alpha", "1.0.0-1"]


def test_numbers_beyond_64_bits_in_a_prerelease_are_texts_as_in_helm() -> None:
    ordered = [version.tag for version in sort_versions(["1.0.0-99999999999999999999", "1.0.0-9", "1.0.0-x"])]
    assert ordered == ["1.0.0-x", "1.0.0-99999999999999999999", "1.0.0-9"]


@pytest.mark.parametrize("tags", [["v1.2.3", "1.2.3"], ["1.2.3", "v1.2.3"], ["01.2.3", "v1.2.3", "1.2.3"]])
def test_where_two_tags_mean_one_version_the_strict_one_wins(tags: list[str]) -> None:
    assert ANY.newest(tags) == "1.2.3"
    assert [group[0].tag for group in distinct(sort_versions(tags)).values()] == ["1.2.3"]


def test_of_versions_that_differ_in_build_metadata_the_first_listed_wins() -> None:
    assert ANY.newest(["1.9.1", "1.9.1_build.5"]) == "1.9.1"
    assert ANY.newest(["1.9.1_build.5", "1.9.1"]) == "1.9.1_build.5"
    assert len(distinct(sort_versions(["1.9.1", "1.9.1_build.5"]))) == 2


@pytest.mark.parametrize(
    ("text", "prereleases", "tag"),
    [
        ("^1", False, "1.3.0"),
        ("^1", True, "1.4.0-rc.1"),
        ("^1-0", False, "1.4.0-rc.1"),
        (">=1.4.0-0", False, "1.4.0-rc.1"),
        ("1.4.x", False, None),
        ("1.4.x", True, None),  # the lower bound of `1.4.x` is the release 1.4.0
    ],
)
def test_prereleases_count_only_where_they_are_asked_for(text: str, prereleases: bool, tag: str | None) -> None:
    assert Constraint.parse(text).newest(["1.2.0", "1.3.0", "1.4.0-rc.1", "0.9.0"], prereleases=prereleases) == tag


def test_without_a_range_a_released_version_wins_over_a_newer_prerelease() -> None:
    tags = ["1.0.0", "2.0.0-preview"]
    assert ANY.newest(tags) == "1.0.0"
    assert ANY_OR_PRERELEASE.newest(tags) == "2.0.0-preview"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.2.3", "1.2.3"),
        ("=1.2.3", "1.2.3"),
        (" v1.2.3 ", "v1.2.3"),
        ("1.2.3+b", "1.2.3+b"),
        ("0.4.023901", "0.4.023901"),
        ("1.2", None),
        ("^1.2.3", None),
        ("1.2.3, 1.2.3", None),
        ("1.2.3-01", None),
    ],
)
def test_one_full_version_is_exact(text: str, version: str | None) -> None:
    assert exact_version(text) == version


def test_a_version_becomes_a_tag_as_helm_writes_it() -> None:
    assert tag_of("1.2.3+build.5") == "1.2.3_build.5"


def test_20_000_tags_resolve_in_under_a_second() -> None:
    # The limit is generous, because test machines can be slow. The benchmark measures the exact time.
    tags = [f"{a}.{b}.{c}{d}" for a in range(20) for b in range(50) for c in range(10) for d in ("", "-rc.1")]
    begun = time.process_time()
    assert Constraint.parse("^19.1 || <5").newest(tags) == "19.49.9"
    assert time.process_time() - begun < 5


HOSTILE = {
    "spaces in turn": "1  " * 170 + "!",
    "many items": "1 " * 255 + "!",
    "dashes": "1-" * 256,
    "a hyphen range of dashes": "1-1-" * 100 + " - 1",
    "500 digits": "9" * 500,
    "dots and pluses": "1.1.1+" + "a." * 200,
    "over 512 bytes": "1 || " * 200,
    "over 512 bytes in few characters": "é" * 300,
    "33 alternatives": "||".join(["1"] * 33),
    "100,000 characters": "^" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_range_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        Constraint.parse(text)
    assert time.process_time() - begun < 2
    assert len(caught.value.message) < 500


def test_a_refusal_names_the_part_that_helm_does_not_read() -> None:
    with pytest.raises(InputError, match="`latest`"):
        Constraint.parse("latest")
    with pytest.raises(InputError, match="`=>>2`"):
        Constraint.parse(">=1, =>>2")


@pytest.mark.parametrize(("text", "version"), [("1.0.0-23_a1b2", "1.0.0-23+a1b2"), (">=1.0.0_b <2", ">=1.0.0+b <2")])
def test_a_tag_as_a_version_names_the_version(text: str, version: str) -> None:
    with pytest.raises(InputError) as caught:
        Constraint.parse(text)
    assert caught.value.hint == f"a version has `+` where a tag has `_`: write `{version}`"
    Constraint.parse(version)


def test_another_mistake_beside_an_underscore_names_no_version() -> None:
    with pytest.raises(InputError) as caught:
        Constraint.parse("latest_1")
    assert "`+`" not in (caught.value.hint or "")
