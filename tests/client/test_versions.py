"""The details of versions, from manifests and configs, with few requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from marfetch.client.fetch import MAX_CONFIG_SIZE
from marfetch.client.session import Session
from marfetch.client.versions import Details, History, history
from marfetch.constraint import Constraint
from marfetch.errors import IntegrityError
from marfetch.oci import Descriptor, descriptor_json
from marfetch.reference import Reference

from ..world.charts import add_chart
from ..world.content import ALB, IMAGE
from ..world.registry import Registry

LIFECYCLE = "application/vnd.microsoft.artifact.lifecycle"


Made = Callable[..., Session]


def chart(mar: Registry, version: str, config: bytes, described_as: int | None = None, **more: Any) -> Descriptor:
    """Add a chart to `aks/toy` with these config bytes, and with this config size in its manifest."""
    return add_chart(mar, "aks/toy", version, b"chart " + version.encode(), config=config, config_size=described_as, **more)


def newest(found: History) -> Details:
    details = found.entries[0].details
    assert details is not None
    return details


def test_details_are_what_manifest_and_config_say(client: Made, mar: Registry) -> None:
    created = {"org.opencontainers.image.created": "2026-01-02T03:04:05Z"}
    descriptor = chart(mar, "1.0.0", b'{"name":"toy","appVersion":"v9"}', annotations=created)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert found == Details(str(descriptor.digest), descriptor.media_type, len(b"chart 1.0.0"), "2026-01-02T03:04:05Z", "v9")


def test_details_are_fetched_for_so_many_and_no_list_is_asked_twice(client: Made, mar: Registry) -> None:
    found = history(client(), Reference(ALB), details=2)
    assert [entry.details is not None for entry in found.entries] == [True, True] + [False] * 7
    assert mar.kinds().count("tags") == 1
    assert mar.kinds().count("manifest") == 2
    mar.asked.clear()
    assert history(client(), Reference(ALB)).entries[0].details is None
    assert mar.kinds() == ["tags"]


def test_a_second_look_asks_for_no_config(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v9"}')
    for times in (1, 0):
        mar.asked.clear()
        with client() as one:
            assert newest(history(one, Reference("aks/toy"), details=1)).app_version == "v9"
        assert mar.kinds().count("data") == times


@pytest.mark.parametrize(
    ("text", "prereleases", "tags"),
    [("^1", True, ["1.1.0-rc.1", "1.0.0"]), ("^1", False, ["1.0.0"]), (">=2", True, ["2.0.0"]), ("^7", True, [])],
)
def test_a_range_narrows_the_list(client: Made, mar: Registry, text: str, prereleases: bool, tags: list[str]) -> None:
    mar.tags["aks/toy"] = ["1.0.0", "1.1.0-rc.1", "2.0.0", "latest"]
    found = history(client(), Reference("aks/toy"), constraint=Constraint.parse(text), prereleases=prereleases)
    assert [entry.tagged.tag for entry in found.entries] == tags
    assert found.other == ("latest",)


CONFIGS = {
    "a number": (b'{"appVersion":9}', None),
    "null": (b'{"appVersion":null}', None),
    "nothing": (b'{"name":"toy"}', None),
    "a list": (b"[]", None),
    "half": (b'{"appVersion":"v9"', "malformed"),
    "a web page": (b"<html>", "malformed"),
    "two of one name": (b'{"appVersion":"v9","appVersion":"v8"}', "malformed"),
}


@pytest.mark.parametrize(("config", "code"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_says_no_app_version_gives_none(client: Made, mar: Registry, config: bytes, code: str | None) -> None:
    chart(mar, "1.0.0", config)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert found.app_version is None
    assert (found.error.code if found.error else None) == code


def test_a_config_that_is_too_large_is_not_asked_for(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v9"}', MAX_CONFIG_SIZE + 1)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert (found.app_version, found.error) == (None, None)
    assert {"blob", "data"}.isdisjoint(mar.kinds())


def test_a_config_with_other_bytes_is_an_error_of_its_version_alone(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v8"}')
    wrong = chart(mar, "2.0.0", b'{"appVersion":"v9"}')
    config = json.loads(mar.manifests[f"aks/toy {wrong.digest}"][1])["config"]["digest"]
    mar.blobs[config] = b'{"appVersion":"bad"}'[:19]
    newer, older = history(client(), Reference("aks/toy"), details=2).entries
    assert newer.details is not None
    assert older.details is not None
    assert isinstance(newer.details.error, IntegrityError)
    assert (newer.details.app_version, older.details.app_version) == (None, "v8")


def test_an_index_has_no_size_and_a_file_no_app_version(client: Made, mar: Registry) -> None:
    mar.add_artifact("aks/toy", "1.0.0", ("a", b"12"), ("b", b"345"))
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert (found.size, found.app_version, found.error) == (5, None, None)
    index = next(entry for entry in history(client(), Reference(IMAGE), details=1).entries if entry.details)
    assert index.details is not None
    assert (index.details.size, index.details.media_type) == (None, "application/vnd.oci.image.index.v1+json")


def test_the_end_of_support_is_that_of_its_own_version(client: Made, mar: Registry) -> None:
    old, _ = chart(mar, "1.0.0", b"{}"), chart(mar, "2.0.0", b"{}")
    notes = {"vnd.microsoft.artifact.lifecycle.end-of-life.date": "2024-11-12"}
    mar.add_artifact("aks/toy", "mark", (None, b"{}"), subject=descriptor_json(old), artifactType=LIFECYCLE, annotations=notes)
    found = history(client(), Reference("aks/toy"), details=2)
    assert [entry.details and entry.details.end_of_life for entry in found.entries] == [None, date(2024, 11, 12)]


@pytest.mark.usefixtures("impatient")
def test_a_failed_referrers_request_is_reported_and_not_treated_as_an_empty_list(client: Made, mar: Registry) -> None:
    mar.on("referrers").answers(501)
    found = newest(history(client(), Reference(ALB), details=1))
    assert found.error is not None
    assert found.error.exit_code == 7


def test_offline_tells_what_the_cache_has_and_what_it_lacks(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v8"}')
    chart(mar, "2.0.0", b'{"appVersion":"v9"}')
    with client() as one:
        history(one, Reference("aks/toy"), constraint=Constraint.parse("^1"), details=1)
        one.repository(Reference("aks/toy", tag="2.0.0")).manifest()
    mar.asked.clear()
    newer, older = history(client(offline=True), Reference("aks/toy"), details=2).entries
    assert newer.details is not None
    assert older.details is not None
    assert newer.details.error is not None
    assert (newer.details.error.code, older.details.app_version) == ("offline", "v8")
    assert mar.asked == []
