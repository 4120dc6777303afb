"""The cool-down: which versions are too young, where their age comes from, and which versions are used although they are young."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marfetch.client.age import minimum_age, read_time
from marfetch.client.resolve import Wanted, resolve
from marfetch.client.session import Session
from marfetch.errors import InputError, NotFoundError
from marfetch.oci import CREATED, OCI_INDEX, Descriptor, descriptor_json
from marfetch.project.lockfile import read_lock
from marfetch.project.wanted import Project
from marfetch.reference import Reference
from marfetch.verify.gate import cool_down

from ..world.charts import add_chart
from ..world.command import Call
from ..world.progress import Heard
from ..world.projects import Make, lock
from ..world.registry import Registry
from ..world.signed import Signed
from ..world.signing import Stamp, cose, payload, policy

APP = "age/app"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
Made = Callable[..., Session]


def ago(**passed: float) -> str:
    return (NOW - timedelta(**passed)).isoformat()


def add(mar: Registry, tag: str, created: str | None, **more: Any) -> Descriptor:
    """A chart with a creation time."""
    notes = {CREATED: created} if created is not None else {}
    return add_chart(mar, APP, tag, f"chart {tag} {created}".encode(), annotations=notes, **more)


@pytest.fixture
def aged(mar: Registry) -> Registry:
    """Version 1.2.0 is two days old, 1.1.0 ten, 1.0.0 a hundred."""
    for tag, days in (("1.0.0", 100), ("1.1.0", 10), ("1.2.0", 2)):
        add(mar, tag, ago(days=days))
    return mar


def wanted(minimum: str | None = "7d", version: str | None = None, *, now: datetime = NOW, tag: str | None = None, **more: Any) -> Wanted:
    return Wanted(Reference(APP, tag=tag), version, cool_down=cool_down(minimum, now=now), **more)


def held(client: Session, request: Wanted) -> Any:
    """The error of a request that finds nothing old enough."""
    with pytest.raises(NotFoundError) as caught:
        resolve(client, request)
    assert (caught.value.code, caught.value.exit_code) == ("held-back", 3)
    return caught.value


def test_a_range_picks_the_newest_that_is_old_enough_and_says_what_it_held_back(aged: Registry, client: Made, heard: Heard) -> None:
    assert resolve(client(), wanted(None)).reference.tag == "1.2.0"
    found = resolve(client(), wanted())
    assert found.reference.tag == "1.1.0"
    assert [(one.version.tag, one.reason) for one in found.held_back] == [("1.2.0", "2 days old, claimed by the publisher")]
    assert found.newer is None, "what is held back is not offered"
    assert any("`1.2.0` of" in text and "is held back: 2 days old, claimed by the publisher; using `1.1.0`" in text for text in heard.notes)


@pytest.mark.parametrize(
    ("minimum", "picked"),
    [("0d", "1.2.0"), ("2d", "1.2.0"), ("48h", "1.2.0"), ("2880m", "1.2.0"), ("2881m", "1.1.0"), ("1w", "1.1.0"), ("2w", "1.0.0")],
)
def test_units_and_bounds(aged: Registry, client: Made, minimum: str, picked: str) -> None:
    assert resolve(client(), wanted(minimum)).reference.tag == picked


def test_where_nothing_is_old_enough_every_version_is_named_with_its_age(aged: Registry, client: Made) -> None:
    error = held(client(), wanted("400d", ">=1.1"))
    assert "`1.2.0` is held back: 2 days old, claimed by the publisher" in error.message
    assert "`1.1.0` is held back: 10 days old, claimed by the publisher" in error.message
    assert [one["tag"] for one in error.context["heldBack"]] == ["1.2.0", "1.1.0"]
    assert error.context["minAge"] == "400d"


@pytest.mark.parametrize(
    "text",
    ["", "7", "d", "7D", "7 d", " 7d", "7d ", "+7d", "-7d", "1.5d", "7s", "7y", "7days", "P7D", "٧d", "1d12h", "0x7d"],
)
def test_other_durations_are_refused(text: str, call: Call) -> None:
    with pytest.raises(InputError) as caught:
        minimum_age(text)
    assert caught.value.code == "usage"
    assert call("resolve", APP, f"--min-age={text}")[0] == 2
    assert call("pull", APP, f"--min-age={text}")[0] == 2


@pytest.mark.parametrize("text", ["9" * 20 + "w", "9" * 5000 + "m"])
def test_a_duration_beyond_the_calendar_holds_everything_back(aged: Registry, client: Made, text: str) -> None:
    assert minimum_age(text) == timedelta.max
    held(client(), wanted(text))


_TIME = r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]+)?([Zz]|[+-][0-2][0-9]:[0-5][0-9])"
TIMES = {
    "2026-11-01T00:00:00Z": datetime(2026, 11, 1, tzinfo=UTC),
    "2026-11-01t02:00:00.123456789+02:00": datetime(2026, 11, 1, 0, 0, 0, 123456, tzinfo=UTC),
    "2026-10-31 18:30:00-05:30": datetime(2026, 11, 1, tzinfo=UTC),
    "2016-12-31T23:59:60Z": datetime(2017, 1, 1, tzinfo=UTC),
    "2017-01-01T00:59:60.5+01:00": datetime(2017, 1, 1, tzinfo=UTC),
    "2026-11-01T12:00:60Z": None,
    "2026-11-01T00:00:61Z": None,
    "2026-02-30T00:00:00Z": None,
    "2026-11-01T24:00:00Z": None,
    "2026-11-01T00:00:00": None,
    "2026-11-01T00:00:00+24:00": None,
    "2026-11-01": None,
    "20261101T000000Z": None,
    "0000-01-01T00:00:00Z": None,
    "0001-01-01T00:00:00+23:59": None,
    "9999-12-31T23:59:60Z": None,
    "1793491200": None,
    "2026-W44-7": None,
    "yesterday": None,
    "": None,
}


@pytest.mark.parametrize(("text", "moment"), TIMES.items())
def test_times_are_those_of_rfc_3339(text: str, moment: datetime | None) -> None:
    assert read_time(text) == moment


@given(st.text("0123456789-+:.TZtz ", max_size=40) | st.from_regex(re.compile(_TIME, re.ASCII), fullmatch=True))
def test_any_text_is_a_time_or_not(text: str) -> None:
    moment = read_time(text)
    assert moment is None or moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("created", "reason"),
    [
        (None, "age unknown, because neither a trusted timestamp nor an annotation states it"),
        ("yesterday", "age unknown, because its creation time `yesterday` is not valid"),
        ("2026-01-01T00:00:00", "age unknown, because its creation time `2026-01-01T00:00:00` is not valid"),
        ("2026-11-28T12:00:01Z", "age unknown, because its time 2026-11-28 12:00:01Z is in the future, claimed by the publisher"),
        ("2026-11-28T11:59:59Z", "moments old, claimed by the publisher"),
        ("2026-11-28T11:58:59Z", "1 minute old, claimed by the publisher"),
        ("2026-11-28T13:00:00+09:00", "8 hours old, claimed by the publisher"),
    ],
)
def test_an_unknown_age_does_not_count(aged: Registry, client: Made, created: str | None, reason: str) -> None:
    add(aged, "1.3.0", created)
    found = resolve(client(), wanted())
    assert (found.reference.tag, found.held_back[0].reason) == ("1.1.0", reason)


def test_a_version_that_is_listed_but_missing_is_held_back(aged: Registry, client: Made) -> None:
    aged.tags[APP].append("1.3.0")  # type: ignore[union-attr]
    with pytest.raises(NotFoundError, match="has no manifest"):
        resolve(client(), wanted(None))
    found = resolve(client(), wanted())
    assert (found.reference.tag, found.held_back[0].reason) == ("1.1.0", "age unknown, because it has no manifest")


@pytest.mark.parametrize("request_", [{"version": "1.2.0"}, {"version": "=v1.2.0"}, {"tag": "1.2.0"}])
def test_what_is_named_exactly_is_only_warned_of(aged: Registry, client: Made, heard: Heard, request_: dict[str, Any]) -> None:
    assert resolve(client(), wanted(**request_)).reference.tag == "1.2.0"
    assert [text for text in heard.warnings if "named exactly" in text and "2 days old, claimed by the publisher" in text]
    heard.warnings.clear()
    assert resolve(client(), wanted("1d", **request_)).reference.tag == "1.2.0"
    assert not [text for text in heard.warnings if "named exactly" in text]


def test_a_digest_and_an_exact_version_under_another_tag_are_only_warned_of_too(aged: Registry, client: Made, heard: Heard) -> None:
    young = add(aged, "v2.0.0", ago(days=1))
    assert resolve(client(), wanted(version="2.0.0")).reference.tag == "v2.0.0"
    found = resolve(client(), wanted()._replace(reference=Reference(APP, digest=young.digest)))
    assert found.reference.digest == young.digest
    assert len([text for text in heard.warnings if "named exactly" in text]) == 2


def test_prereleases_count_only_with_devel(aged: Registry, client: Made) -> None:
    add(aged, "1.3.0-rc.1", ago(days=30))
    assert resolve(client(), wanted()).reference.tag == "1.1.0"
    assert resolve(client(), wanted(devel=True)).reference.tag == "1.3.0-rc.1"
    assert resolve(client(), wanted(version=">=1.2.0-0")).reference.tag == "1.3.0-rc.1"


def test_two_tags_of_one_version_are_as_old_as_the_strict_one(aged: Registry, client: Made) -> None:
    add(aged, "1.3.0", ago(days=1))
    add(aged, "v1.3.0", ago(days=50))
    assert resolve(client(), wanted()).reference.tag == "1.1.0"
    add(aged, "1.4.0", ago(days=50))
    add(aged, "v1.4.0", ago(days=1))
    assert resolve(client(), wanted()).reference.tag == "1.4.0"


def test_builds_of_one_version_have_their_own_age(aged: Registry, client: Made) -> None:
    add(aged, "1.3.0_2", ago(days=1))
    add(aged, "1.3.0_1", ago(days=50))
    assert resolve(client(), wanted()).reference.tag == "1.3.0_1"


def test_the_annotation_of_an_index_counts_and_not_that_of_its_children(aged: Registry, client: Made) -> None:
    child = descriptor_json(add(aged, "child", ago(days=90)))
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    aged.add_manifest(APP, "1.3.0", json.dumps(document).encode())
    assert resolve(client(), wanted()).reference.tag == "1.1.0"
    aged.add_manifest(APP, "1.4.0", json.dumps({**document, "annotations": {CREATED: ago(days=30)}}).encode())
    assert resolve(client(), wanted()).reference.tag == "1.4.0"


def add_image(mar: Registry, tag: str, created: str) -> None:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "c" * 64, "size": 2}
    mar.add_artifact(APP, tag, artifactType=None, config=config, annotations={CREATED: created})


def test_images_are_skipped_and_never_replace_what_is_held_back(mar: Registry, client: Made) -> None:
    add_image(mar, "1.9.0", ago(days=1))
    add_image(mar, "1.8.0", ago(days=90))
    assert resolve(client(), wanted()).reference.tag == "1.8.0", "only images: the newest that is old enough"
    assert [one["tag"] for one in held(client(), wanted("400d")).context["heldBack"]] == ["1.9.0", "1.8.0"]
    add(mar, "1.7.0", ago(days=1))
    assert [one["tag"] for one in held(client(), wanted()).context["heldBack"]] == ["1.7.0"]
    add(mar, "1.6.0", ago(days=8))
    assert resolve(client(), wanted()).reference.tag == "1.6.0"


def test_at_most_fifty_manifests_are_asked_for(mar: Registry, client: Made) -> None:
    for number in range(70):
        add(mar, f"1.{number}.0", ago(days=1))
    error = held(client(), wanted())
    assert mar.kinds().count("manifest") == 50
    assert len(error.context["heldBack"]) == 50
    assert "40 more versions" in error.message
    assert "20 older versions not checked" in error.message


def test_the_cache_answers_offline(aged: Registry, client: Made) -> None:
    online = client()
    resolve(online, wanted("2w"))
    online.close()
    assert resolve(client(offline=True), wanted()).reference.tag == "1.1.0"
    held(client(offline=True), wanted("400d"))


# -- the timestamps of signatures


@pytest.fixture
def stamped(signed: Signed, config: Path) -> Callable[..., Any]:
    """Sign a version of `age/app` with a timestamp, under a policy that trusts the timestamping authority."""

    def sign(of: Descriptor, *, time: datetime, tsa: bool = True, level: str = "strict", **options: Any) -> None:
        stores = ["ca:test", "tsa:test"] if tsa else ["ca:test"]
        document = policy(trustStores=stores, signatureVerification={"level": level, "verifyTimestamp": "afterCertExpiry"})
        (config / "trustpolicy.json").write_text(json.dumps(document))
        envelope = cose(signed.authority.signer(), payload(of), stamp=Stamp(signed.authority.tsa, time=time, **options))
        layer = {**descriptor_json(signed.mar.add_blob(envelope)), "mediaType": "application/cose"}
        signed.mar.add_blob(b"{}")
        kind = "application/vnd.cncf.notary.signature"
        signed.mar.add_artifact(APP, f"signature-{time:%s}", artifactType=kind, subject=descriptor_json(of), layers=[layer])

    return sign


def test_a_trusted_timestamp_counts_more_than_what_the_publisher_claims(aged: Registry, client: Made, stamped: Callable[..., Any]) -> None:
    new, old = add(aged, "1.4.0", ago(days=300)), add(aged, "1.3.0", None)
    stamped(new, time=NOW - timedelta(days=1))
    stamped(old, time=NOW - timedelta(days=30))
    found = resolve(client(), wanted())
    assert found.reference.tag == "1.3.0"
    assert [one.reason for one in found.held_back] == ["1 day old, by the timestamp of its signature"]


def test_the_oldest_trusted_timestamp_counts(aged: Registry, client: Made, stamped: Callable[..., Any]) -> None:
    twice = add(aged, "1.3.0", None)
    stamped(twice, time=NOW - timedelta(days=1))
    stamped(twice, time=NOW - timedelta(days=20))
    assert resolve(client(), wanted()).reference.tag == "1.3.0"


@pytest.mark.parametrize("untrusted", [{"tsa": False}, {"break_signature": True}, {"level": "audit", "break_signature": True}])
def test_a_timestamp_that_is_not_trusted_does_not_count(
    aged: Registry, client: Made, stamped: Callable[..., Any], untrusted: dict[str, Any]
) -> None:
    young = add(aged, "1.3.0", ago(days=1))
    stamped(young, time=NOW - timedelta(days=30), **untrusted)
    found = resolve(client(), wanted())
    assert (found.reference.tag, found.held_back[0].reason) == ("1.1.0", "1 day old, claimed by the publisher")


def test_a_timestamp_in_the_future_is_an_unknown_age(aged: Registry, client: Made, stamped: Callable[..., Any]) -> None:
    stamped(add(aged, "1.3.0", ago(days=100)), time=NOW + timedelta(hours=1))
    found = resolve(client(), wanted())
    assert found.reference.tag == "1.1.0"
    assert "in the future, by the timestamp of its signature" in found.held_back[0].reason


def test_an_invalid_policy_is_an_error_and_none_is_no_error(aged: Registry, client: Made, config: Path) -> None:
    (config / "trustpolicy.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        resolve(client(), wanted())
    assert caught.value.code == "POLICY_INVALID"
    (config / "trustpolicy.json").unlink()
    assert resolve(client(), wanted()).reference.tag == "1.1.0"


def test_manifests_of_signatures_count_too(mar: Registry, client: Made, stamped: Callable[..., Any]) -> None:
    for number in range(40):
        stamped(add(mar, f"1.{number}.0", ago(days=1)), time=NOW - timedelta(hours=number + 1))
    held(client(), wanted())
    assert mar.kinds().count("manifest") <= 50


# -- projects


def locked(project: Project) -> str | None:
    return read_lock(project.lock_path).entries[0].reference.tag


def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock of the cool-down to the time of the tests."""
    monkeypatch.setattr("marfetch.project.wanted.cool_down", lambda text: cool_down(text, now=NOW))


def test_what_is_locked_stays_however_young(aged: Registry, make: Make, client: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    at_now(monkeypatch)
    project = make(f"reference: {APP}")
    lock(client(), project)
    assert locked(project) == "1.2.0"
    before = project.lock_path.read_bytes()
    cooled = project.with_min_age("7d")
    for request in (cooled, project.with_min_age("400d")):
        lock(client(), request)
        lock(client(), request, upgrade=True)
        assert project.lock_path.read_bytes() == before, "no younger and no older version replaces it"
    add(aged, "1.3.0", ago(days=1))
    add(aged, "1.2.5", ago(days=8))
    lock(client(), cooled, upgrade=True)
    assert locked(project) == "1.2.5"


def test_a_tag_that_moved_to_young_content_is_not_followed(
    aged: Registry, make: Make, client: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_now(monkeypatch)
    project = make(f"reference: {APP}, min-age: 7d")
    lock(client(), project)
    assert locked(project) == "1.1.0"
    before = project.lock_path.read_bytes()
    add(aged, "1.1.0", ago(hours=1))
    lock(client(), project, upgrade=True)
    assert project.lock_path.read_bytes() == before


def test_another_tag_of_the_locked_version_does_not_lead_to_an_older_one(
    mar: Registry, make: Make, client: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_now(monkeypatch)
    add(mar, "1.0.0", ago(days=90))
    add(mar, "v1.2.0", ago(days=30))
    project = make(f"reference: {APP}, min-age: 7d")
    lock(client(), project)
    add(mar, "1.2.0", ago(days=1))
    lock(client(), project, upgrade=True)
    assert locked(project) == "v1.2.0"


def test_diff_compares_with_what_an_upgrade_would_lock(aged: Registry, make: Make, call: Call) -> None:
    project = make(f"reference: {APP}, min-age: 5000w")
    assert call("lock", "-f", project.path, "--min-age", "0d")[0] == 0
    code, out, _ = call("diff", "-f", project.path)
    assert (code, out) == (0, ""), "everything is too young, so an upgrade changes nothing"


def test_a_first_lock_without_anything_old_enough_fails(aged: Registry, make: Make, call: Call) -> None:
    project = make(f"reference: {APP}")
    code, _, err = call("lock", "-f", project.path, "--min-age", "5000w")
    assert code == 3
    assert "is held back: " in err
    assert not project.lock_path.exists()


def test_outdated_does_not_count_what_is_held_back(aged: Registry, make: Make, call: Call) -> None:
    project = make(f'reference: {APP}, version: "1.1.0 - 1.1.9"')
    assert call("lock", "-f", project.path)[0] == 0
    code, out, _ = call("outdated", "-f", project.path, "--json")
    assert (code, json.loads(out)["data"]["artifacts"][0]["newest"]["tag"]) == (1, "1.2.0")
    code, out, err = call("outdated", "-f", project.path, "--min-age", "5000w")
    assert (code, out) == (0, "")
    assert "`1.2.0` of `app` is held back: " in err
    code, out, _ = call("outdated", "-f", project.path, "--min-age", "5000w", "--json")
    (one,) = json.loads(out)["data"]["artifacts"]
    assert (one["outdated"], one["newest"], [kept["tag"] for kept in one["heldBack"]]) == (False, None, ["1.2.0"])


@pytest.mark.parametrize("where", ["file", "artifact"])
@pytest.mark.parametrize("value", ["7", "7.5", "true", "null", "[7d]", "7D", '""'])
def test_another_min_age_in_the_file_is_refused_with_its_line(tmp_path: Path, call: Call, where: str, value: str) -> None:
    path = tmp_path / "marfetch.yaml"
    key = f"min-age: {value}\n"
    path.write_text(
        f"schema: 1\n{key if where == 'file' else ''}artifacts:\n  - reference: {APP}\n    {key if where == 'artifact' else ''}"
    )
    code, _, err = call("lock", "-f", path)
    assert code == 2
    assert f"line {2 if where == 'file' else 4}, column" in err


def test_an_artifact_overrides_the_file_and_the_option_both(tmp_path: Path) -> None:
    from marfetch.project.wanted import read_project

    path = tmp_path / "marfetch.yaml"
    path.write_text(
        "schema: 1\nmin-age: 7d\nartifacts:\n  - reference: a/b\n  - {reference: a/c, min-age: 0d}\n  - {reference: a/d, min-age: 2w}\n"
    )
    project = read_project(path)
    assert [one.min_age for one in project.items] == ["7d", "0d", "2w"]
    assert [one.wanted.cool_down is not None for one in project.items] == [True, False, True]
    assert {one.min_age for one in project.with_min_age("3h").items} == {"3h"}
    assert all("min-age" not in one.options() for one in project.items), "a lock file stays valid"


def test_commands_take_the_option(aged: Registry, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("resolve", APP, "--min-age", "5000w", "--json")
    assert code == 3
    assert [one["tag"] for one in json.loads(out)["error"]["heldBack"]] == ["1.2.0", "1.1.0", "1.0.0"]
    assert call("pull", APP, "--min-age", "5000w", "-d", tmp_path / "out")[0] == 3
    assert not (tmp_path / "out").exists()
    young = datetime.now(UTC).isoformat()
    add(aged, "9.0.0", young)
    code, out, _ = call("resolve", APP, "--min-age", "1d", "--json")
    data = json.loads(out)["data"]
    assert (code, data["tag"], [one["tag"] for one in data["heldBack"]]) == (
        0,
        "1.2.0",
        ["9.0.0"],
    )
