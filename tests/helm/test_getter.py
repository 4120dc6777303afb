"""The getter without Helm: charts and indexes on stdout, or one line with the error on stderr."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.session import Session
from marfetch.helm import getter
from marfetch.helm.charts import FRESH, FRESH_IF_INCOMPLETE, NEWEST, build_index, kept_index
from marfetch.helm.index_yaml import chart_facts, created, index
from marfetch.oci import Digest
from marfetch.records import Records
from marfetch.reference import Host, Reference

from ..world import charts
from ..world.command import Run, document, line, surroundings
from ..world.content import ALB
from ..world.registry import Registry

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"


Got = Callable[..., subprocess.CompletedProcess[bytes]]


def add_chart(mar: Registry, repository: str, tag: str, metadata: Any = None, **annotations: str) -> Digest:
    """Add a chart, and return the digest of its package."""
    package = f"{repository} {tag}".encode()
    config = json.dumps({"name": repository.rpartition("/")[2], "version": "1"} if metadata is None else metadata).encode()
    charts.add_chart(mar, repository, tag, package, config=config, artifactType=HELM_CONFIG, annotations=annotations)
    return Digest.of(package)


@pytest.fixture
def got(mar: Registry, tmp_path: Path) -> Got:
    """Return a function that runs the getter as Helm does, with three empty file arguments before the address."""

    def get(url: str, *before: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        given = {**surroundings(cache=tmp_path / "cache"), "MARFETCH_DATA_HOSTS": mar.data_host, **environment}
        words = line("getter", *(before or ("", "", "")), url.replace("HOST", mar.host))
        return subprocess.run(words, cwd=tmp_path, env=given, capture_output=True, timeout=60, check=False)

    return get


def entries(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)["entries"]
    return found


# -- the index


def test_an_index_holds_every_version_with_what_is_known_of_the_newest(mar: Registry, got: Got) -> None:
    tags = [f"1.{number}.0" for number in range(NEWEST + 5)]
    packages = {tag: add_chart(mar, "aks/toy", tag, {"name": "toy", "appVersion": f"v{tag}", "description": "a toy"}) for tag in tags}
    add_chart(mar, "aks/toy", "v2.0.0_b.5", {"name": "toy"})
    mar.tags["aks/toy"] += ["latest", "2024-01-02", "sha256-abc"]  # type: ignore[operator]
    found = entries(got("mar://HOST/aks/toy/index.yaml"))["toy"]
    assert [one["version"] for one in found] == ["v2.0.0+b.5", *reversed(tags)]
    assert [one.get("digest") for one in found[1:NEWEST]] == [packages[one["version"]].encoded for one in found[1:NEWEST]]
    assert [one.get("digest") for one in found[NEWEST:]] == [None] * 6
    assert (found[1]["appVersion"], found[1]["description"], found[1]["apiVersion"]) == ("v1.24.0", "a toy", "v2")
    assert all(one["name"] == "toy" for one in found)
    assert found[-1]["urls"] == [f"mar://{mar.host}/aks/toy:1.0.0/toy-1.0.0.tgz"]
    assert found[0]["urls"][0].startswith(f"mar://{mar.host}/aks/toy@sha256:")
    assert mar.kinds().count("tags") == 1
    assert mar.kinds().count("manifest") == NEWEST


def test_a_closed_stdout_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(getter, "content", lambda *_: b"")
    monkeypatch.setattr(sys, "stdout", None)
    assert getter.main(["", "", "", "mar://mcr.microsoft.com/aks/toy/index.yaml"]) == 9
    assert "stdout is closed" in capsys.readouterr().err


def test_entries_have_the_charts_own_name(mar: Registry, got: Got) -> None:
    """Helm finds a dependency only by the name in its `Chart.yaml`, so this name is a key of the index too."""
    for number in range(NEWEST + 2):
        add_chart(mar, "aks/toy", f"1.{number}.0", {"name": "web"})
    add_chart(mar, "aks/toy", "1.99.0", {"name": "../../x"}, **{"org.opencontainers.image.title": "web"})
    add_chart(mar, "aks/toy", "0.1.0", {"name": "older"})
    found = entries(got("mar://HOST/aks/toy/index.yaml"))
    assert {key: {one["name"] for one in group} for key, group in found.items()} == {"toy": {"web"}, "web": {"web"}}
    assert found["toy"] == found["web"]
    assert found["web"][0]["urls"][0].endswith("/web-1.99.0.tgz")
    assert found["web"][-1]["urls"][0].endswith(":0.1.0/web-0.1.0.tgz"), (
        "older versions that were not fetched get the name of the newest version"
    )


def test_an_own_name_never_hides_another_chart(mar: Registry, got: Got) -> None:
    for repository, name in {"a": "b", "b": "b", "c": "same", "d": "same", "e": "own", "f/g": "own"}.items():
        add_chart(mar, f"ns/{repository}", "1.0.0", {"name": name})
    found = entries(got("mar://HOST/ns/index.yaml"))
    assert {key: one[0]["urls"][0].partition("@")[0].partition("/ns/")[2] for key, one in found.items()} == {
        **{path: path for path in ("a", "b", "c", "d", "e", "f/g")},
        "own": "e",
        "f/own": "f/g",
    }


def test_an_own_name_does_not_take_the_place_of_a_chart_that_cannot_be_read(mar: Registry, client: Callable[..., Session]) -> None:
    add_chart(mar, "sub/one", "1.0.0", {"name": "two"})
    add_chart(mar, "sub/two", "1.0.0")
    mar.on("tags", "/sub/two/").answers(401)
    found = json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "sub"))
    assert {key: one[0]["name"] for key, one in found["entries"].items()} == {"one": "two"}


def test_own_names_are_kept_with_the_charts_of_a_namespace(mar: Registry, got: Got, tmp_path: Path) -> None:
    add_chart(mar, "ns/a", "1.0.0", {"name": "own"})
    first = entries(got("mar://HOST/ns/index.yaml"))
    shutil.rmtree(tmp_path / "cache" / "indexes", ignore_errors=True)
    asked = mar.kinds().count("manifest")
    assert entries(got("mar://HOST/ns/index.yaml")) == first
    assert mar.kinds().count("manifest") == asked
    assert sorted(first) == ["a", "own"]


@pytest.mark.slow
def test_every_address_of_an_index_can_be_fetched(mar: Registry, got: Got) -> None:
    package = add_chart(mar, "aks/toy", "1.2.3_b.5")
    (entry,) = entries(got("mar://HOST/aks/toy/index.yaml"))["toy"]
    done = got(entry["urls"][0])
    assert Digest.of(done.stdout) == package
    assert entry["digest"] == package.encoded
    assert entry["urls"][0].endswith("/toy-1.2.3+b.5.tgz")


@pytest.mark.slow
def test_an_index_is_given_again_without_a_request_and_by_one_builder(mar: Registry, got: Got) -> None:
    add_chart(mar, "aks/toy", "1.0.0")
    first = got("mar://HOST/aks/toy/index.yaml").stdout
    asked = len(mar.asked)
    assert got("mar://HOST/aks/toy/index.yaml").stdout == first
    assert len(mar.asked) == asked


def test_of_many_getters_at_once_one_builds(mar: Registry, tmp_path: Path, client: Callable[..., Session]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    add_chart(mar, "aks/toy", "1.0.0")
    clients = [client() for _ in range(4)]
    reference = Reference("x", Host.parse(mar.host))
    with ThreadPoolExecutor(4) as executor:
        built = list(executor.map(lambda one: build_index(one, reference, "aks/toy"), clients))
    assert len(set(built)) == 1
    assert mar.kinds().count("tags") == 1


@pytest.mark.slow
def test_an_index_that_is_no_longer_fresh_is_built_anew(mar: Registry, got: Got, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.0.0")
    got("mar://HOST/aks/toy/index.yaml")
    (kept,) = (tmp_path / "cache" / "kept" / "indexes").glob("*.json")
    os.utime(kept, (0, kept.stat().st_mtime - FRESH - 1))
    add_chart(mar, "aks/toy", "1.1.0")
    assert [one["version"] for one in entries(got("mar://HOST/aks/toy/index.yaml"))["toy"]] == ["1.1.0", "1.0.0"]


def test_what_was_kept_is_not_believed_blindly(tmp_path: Path) -> None:
    kept = Records(tmp_path, "indexes")
    kept.put("h/p", "text")
    assert kept_index(kept, "h", "p") == b"text"
    (file,) = (tmp_path / "kept" / "indexes").glob("*.json")
    for text in (
        "",
        "{",
        '{"schema":2,"key":"h/p","data":"x"}',
        '{"schema":1,"key":"other","data":"x"}',
        '{"schema":1,"key":"h/p","data":7}',
    ):
        file.write_text(text)
        assert kept_index(kept, "h", "p") is None
    kept.put("h/p", "text")
    os.utime(file, (time.time() + 3600, time.time() + 3600))
    assert kept_index(kept, "h", "p") is None


@pytest.mark.slow
def test_what_was_kept_goes_when_it_is_old_and_when_the_cache_is_cleared(mar: Registry, got: Got, run: Run, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.0.0")
    got("mar://HOST/aks/toy/index.yaml")
    (kept,) = (tmp_path / "cache" / "kept" / "indexes").glob("*.json")
    run("cache", "prune")
    assert kept.exists()
    os.utime(kept, (0, kept.stat().st_mtime - 100_000))
    run("cache", "prune")
    assert not kept.exists()
    run("cache", "clear")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_a_namespace_lists_its_charts_and_nothing_else(mar: Registry, got: Got) -> None:
    found = entries(got("mar://HOST/application-lb/index.yaml"))
    assert list(found) == ["charts/alb-controller"]
    assert {one["name"] for one in found["charts/alb-controller"]} == {"alb-controller"}
    assert "bicep" not in json.dumps(entries(got("mar://HOST/azure-application-gateway/index.yaml")))
    whole = entries(got("mar://HOST/index.yaml"))
    assert "k8s/azureserviceoperator/helmchart/azure-service-operator" in whole
    assert not any("bicep" in key or "dotnet" in key for key in whole)


def test_a_namespace_is_listed_as_far_as_the_time_goes_and_the_next_call_goes_on(
    mar: Registry, client: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    from marfetch.helm import charts

    def known(number: int) -> list[str]:
        names = [f"aks/toy{one}" for one in range(number)]
        mar.honestly()
        mar.on("catalog").answers_with(json.dumps({"repositories": names}).encode())
        for kept in client().cache.root.glob("kept/indexes/*.json"):
            kept.unlink()
        return sorted(json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "aks"))["entries"])

    for number in range(4):
        add_chart(mar, f"aks/toy{number}", "1.0.0")
    assert known(2) == ["toy0", "toy1"]
    with monkeypatch.context() as patch:
        patch.setattr(charts, "NAMESPACE_TIME", 0.0)
        assert known(4) == ["toy0", "toy1"]
    assert any("2 of 4 repositories below" in warning for warning in heard.warnings)
    with monkeypatch.context() as patch:
        for name, value in {"NAMESPACE_TIME": 0.0, "CACHE_TIME": 0.0, "AT_ONCE": 1}.items():
            patch.setattr(charts, name, value)
        assert known(4) == ["toy0"]
    assert any("3 of 4 repositories below" in warning for warning in heard.warnings)
    assert known(4) == ["toy0", "toy1", "toy2", "toy3"]


@pytest.mark.slow
def test_a_namespace_of_which_nothing_can_be_seen_is_a_failure_and_no_empty_index(mar: Registry, got: Got) -> None:
    for name in ("one", "two", "three"):
        add_chart(mar, f"sub/{name}", "1.0.0")
    mar.on("tags", "/sub/").answers_with(b"<html>sign in</html>")
    done = got("mar://HOST/sub/index.yaml")
    assert (done.returncode, done.stdout) == (5, b"")
    mar.honestly()
    mar.on("tags", "/sub/").answers(429, retry_after="3600")
    done = got("mar://HOST/sub/index.yaml")
    assert (done.returncode, done.stdout) == (7, b"")
    assert b"3600" in done.stderr
    assert b"--timeout" not in done.stderr
    # Helm starts one process per download. If one is throttled, the others must wait for its `Retry-After` too.
    mar.honestly()
    done = got("mar://HOST/sub/index.yaml")
    assert (done.returncode, done.stdout, mar.asked) == (7, b"", [])
    assert b"throttled another marfetch" in done.stderr
    assert b"--timeout" not in done.stderr
    assert b"--cache-dir" not in done.stderr
    shutil.rmtree(Path(os.environ["MARFETCH_CACHE_DIR"]) / "kept" / "pauses")
    assert sorted(entries(got("mar://HOST/sub/index.yaml"))) == ["one", "three", "two"]


def test_an_index_in_which_something_is_missing_says_why_and_is_kept_for_a_moment_only(
    mar: Registry, client: Callable[..., Session], heard: Any
) -> None:
    for name in ("one", "two"):
        add_chart(mar, f"sub/{name}", "1.0.0")
    mar.on("tags", "/sub/two/").answers(401)

    def build() -> list[str]:
        return sorted(json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "sub"))["entries"])

    assert build() == ["one"]
    (warning,) = (one for one in heard.warnings if "cannot read" in one)
    assert warning.startswith(f"cannot read 1 of 2 repositories below `{mar.host}/sub`")
    assert "401" in warning
    mar.honestly()
    asked = len(mar.asked)
    assert build() == ["one"]
    assert len(mar.asked) == asked
    (kept,) = client().cache.root.glob("kept/indexes/*.json")
    past = time.time() - FRESH_IF_INCOMPLETE - 1
    os.utime(kept, (past, past))
    assert build() == ["one", "two"]


@pytest.mark.slow
def test_what_stalls_does_not_keep_a_namespace_beyond_its_time(
    mar: Registry, client: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    from marfetch.helm import charts

    for name in ("one", "two"):
        add_chart(mar, f"sub/{name}", "1.0.0")
    mar.on("tags", "/sub/two/").stalls_before_headers()
    monkeypatch.setattr(charts, "NAMESPACE_TIME", 2.0)
    index = json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "sub"))
    assert list(index["entries"]) == ["one"]
    assert any("not finished within the 2 s that one call spends on a namespace" in warning for warning in heard.warnings)


@pytest.mark.slow
def test_the_index_leaves_out_versions_that_are_not_charts(mar: Registry, got: Got) -> None:
    add_chart(mar, "mix/a", "1.0.0")
    for number in range(NEWEST + 5):
        mar.add_artifact("mix/a", f"2.0.{number}", ("file.txt", b"x"))
    (one,) = entries(got("mar://HOST/mix/a/index.yaml"))["a"]
    assert one["version"] == "1.0.0"


@pytest.mark.parametrize(
    ("path", "code"), [("aks/none", 3), ("bicep/avm/res/storage/storage-account", 4), ("dotnet/aspnet", 4), ("no/such/namespace", 3)]
)
def test_what_has_no_charts_is_an_error_with_one_line(got: Got, path: str, code: int) -> None:
    done = got(f"mar://HOST/{path}/index.yaml")
    assert (done.returncode == 0, done.stdout) == (False, b"")
    assert len(done.stderr.decode().strip().splitlines()) == 1


HOSTILE = {
    "appVersion": "x" * 200_000,
    "description": "\x1b[2J\nfake: entry\u202e",
    "kubeVersion": ["no"],
    "type": {"no": 1},
    "home": None,
    "deprecated": "yes",
    "keywords": ["a\n", 7, None, *["b"] * 1000],
    "apiVersion": "\x00",
    "annotations": {"a": "x" * 200_000},
    "dependencies": [{"name": "x"}],
    "maintainers": "me",
}


def test_hostile_metadata_makes_a_short_and_harmless_entry(mar: Registry, got: Got) -> None:
    add_chart(mar, "aks/toy", "1.0.0", HOSTILE, **{"org.opencontainers.image.created": "not a date"})
    done = got("mar://HOST/aks/toy/index.yaml")
    (entry,) = entries(done)["toy"]
    assert len(done.stdout) < 5000
    assert set(entry) <= {"name", "version", "urls", "digest", "apiVersion", "appVersion", "description", "keywords"}
    assert not any(ord(character) < 32 or character == "\u202e" for character in entry["description"] + "".join(entry["keywords"]))
    assert entry["apiVersion"] == "v2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2024-11-01T00:00:00Z", "2024-11-01T00:00:00Z"),
        ("2024-11-01T02:00:00+02:00", "2024-11-01T00:00:00Z"),
        ("2026-04-10T20:33:39.8412151Z", "2026-04-10T20:33:39Z"),
        ("2024-11-01", "2024-11-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_written_in_the_one_form_that_helm_reads_or_not_at_all(text: str | None, shown: str | None) -> None:
    assert created(text) == shown


@pytest.mark.parametrize(("kind", "shown"), [("library", "library"), ("application", "application"), ("bogus", None), (["x"], None)])
def test_a_type_that_helm_does_not_know_is_left_out(kind: Any, shown: str | None) -> None:
    assert chart_facts({"name": "x", "type": kind}).get("type") == shown


def test_an_empty_index_is_one() -> None:
    assert json.loads(index({"toy": []}, host="h")) == {"apiVersion": "v1", "entries": {}}
    assert chart_facts({}) == {"apiVersion": "v2"}


@pytest.mark.slow
def test_the_command_prints_the_same_index_and_writes_it_for_a_web_server(run: Run, tmp_path: Path) -> None:
    printed = json.loads(run("index", ALB).stdout)
    assert [one["version"] for one in printed["entries"]["alb-controller"]][:2] == ["1.11.4", "1.10.27"]
    assert document(run("index", ALB, "--json"))["data"]["index"] == printed
    done = run("index", ALB, "azure-application-gateway/charts/ingress-azure", "-o", "site/index.yaml")
    assert done.stdout == "site/index.yaml\n"
    assert set(json.loads((tmp_path / "here" / "site" / "index.yaml").read_text())["entries"]) == {"alb-controller", "ingress-azure"}
    whole = json.loads(run("index", "application-lb").stdout)
    assert whole["entries"]["charts/alb-controller"] == printed["entries"]["alb-controller"]
    both = json.loads(run("index", ALB, "application-lb").stdout)
    assert sum(len(releases) for releases in both["entries"].values()) == sum(len(releases) for releases in whole["entries"].values())
    assert run("index", f"{ALB}:1.7.12").returncode == 2
    assert run("index", "bicep/avm/res/storage/storage-account").returncode == 4
    assert run("index", ALB, "-o", ".").returncode == 9


# -- the getter


@pytest.mark.slow
def test_a_chart_is_written_whole_to_stdout_and_nothing_else_is_said(mar: Registry, got: Got) -> None:
    package = add_chart(mar, "aks/toy", "1.2.3")
    for url in (
        "aks/toy:1.2.3/toy-1.2.3.tgz",
        "aks/toy/toy-1.2.3.tgz",
        "aks/toy-1.2.3.tgz",
        "aks/toy",
        "aks/toy?version=^1",
        "aks/toy:1.2.3",
    ):
        done = got(f"mar://HOST/{url}")
        assert (done.returncode, Digest.of(done.stdout), done.stderr) == (0, package, b""), url


def test_a_chart_by_digest_comes_from_the_cache_without_a_request(mar: Registry, got: Got) -> None:
    add_chart(mar, "aks/toy", "1.2.3")
    (entry,) = entries(got("mar://HOST/aks/toy/index.yaml"))["toy"]
    first = got(entry["urls"][0])
    asked = len(mar.asked)
    assert got(entry["urls"][0]).stdout == first.stdout
    assert len(mar.asked) == asked


def test_a_chart_that_is_not_signed_is_not_handed_out_where_the_environment_asks_for_it(mar: Registry, got: Got, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3")
    (tmp_path / "xdg" / "notation").mkdir(parents=True)
    statement = {
        "name": "a",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:a"],
        "trustedIdentities": ["*"],
    }
    (tmp_path / "xdg" / "notation" / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [statement]}))
    done = got("mar://HOST/aks/toy:1.2.3", MARFETCH_VERIFY="policy", XDG_CONFIG_HOME=str(tmp_path / "xdg"))
    assert (done.returncode, done.stdout) == (6, b"")
    assert b"is unsigned" in done.stderr


@pytest.mark.slow
def test_a_chart_by_tag_is_asked_for_again_only_after_a_while(mar: Registry, got: Got, tmp_path: Path) -> None:
    package = add_chart(mar, "aks/toy", "1.2.3")
    got("mar://HOST/aks/toy:1.2.3/toy-1.2.3.tgz")
    asked = len(mar.asked)
    again = got("mar://HOST/aks/toy:1.2.3/toy-1.2.3.tgz")
    assert (Digest.of(again.stdout), len(mar.asked)) == (package, asked)
    (kept,) = (tmp_path / "cache" / "kept" / "tags").glob("*.json")
    os.utime(kept, (0, kept.stat().st_mtime - FRESH - 1))
    moved = add_chart(mar, "aks/toy", "1.2.3", {"name": "toy", "description": "moved"})
    assert moved == package  # the tag now points to another manifest with the same package
    got("mar://HOST/aks/toy:1.2.3/toy-1.2.3.tgz")
    assert len(mar.asked) == asked + 1


@pytest.mark.slow
def test_provenance_is_handed_out_where_there_is_some(got: Got) -> None:
    done = got("mar://HOST/azure-application-gateway/charts/ingress-azure:1.9.1/ingress-azure-1.9.1.tgz.prov")
    assert done.stdout.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----")
    without = got("mar://HOST/application-lb/charts/alb-controller:1.7.12/alb-controller-1.7.12.tgz.prov")
    assert without.returncode != 0
    assert without.stdout == b""
    assert b"no provenance" in without.stderr


TROUBLES: dict[str, Callable[[Registry], object]] = {
    "wrong bytes": lambda mar: mar.on("data").answers_with(b"no chart at all"),
    "a body that is cut": lambda mar: mar.on("data").cuts_after(3),
    "no answer": lambda mar: mar.on("manifest").closes_at_once(),
    "a missing tag": lambda mar: mar.on("manifest").answers(404),
    "a redirect astray": lambda mar: mar.on("blob").redirects("https://evil.example/x?sig=secret"),
    "a throttle": lambda mar: mar.on("manifest").answers(429, retry_after="100000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_on_any_error_stdout_stays_empty_and_one_line_says_why(mar: Registry, got: Got, trouble: str) -> None:
    TROUBLES[trouble](mar)
    done = got("mar://HOST/application-lb/charts/alb-controller:1.7.12/alb-controller-1.7.12.tgz")
    assert done.returncode in (3, 4, 5, 7)
    assert done.stdout == b""
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"marfetch: mar://{mar.host}/application-lb/charts/alb-controller:1.7.12/alb-controller-1.7.12.tgz: ")
    assert "; hint: " in last
    assert b"secret" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_is_no_chart_is_not_handed_out(got: Got) -> None:
    done = got("mar://HOST/bicep/avm/res/storage/storage-account:0.14.0")
    assert (done.returncode, done.stdout) == (4, b"")


@pytest.mark.parametrize("before", [(), ("",), ("", ""), ("", "", "", "")])
def test_the_address_is_the_last_argument_however_many_stand_before_it(mar: Registry, tmp_path: Path, before: Sequence[str]) -> None:
    from marfetch.helm.getter import main

    assert main([*before, "mar://mcr.microsoft.com"]) == 2
    assert main([]) == 2


def test_the_credentials_of_a_helm_repository_are_used_for_a_registry_of_the_users_own(mar: Registry, got: Got) -> None:
    add_chart(mar, "aks/toy", "1.0.0")
    mar.on("tags").answers(401, WWW_Authenticate="Basic realm=x")
    got("mar://HOST/aks/toy/index.yaml", HELM_PLUGIN_USERNAME="me", HELM_PLUGIN_PASSWORD="secret")
    given = [(asked.kind, asked.headers.get("authorization")) for asked in mar.asked]
    assert given == [("tags", None), ("tags", "Basic " + base64.b64encode(b"me:secret").decode())]


def test_client_certificates_are_said_to_be_unused(got: Got) -> None:
    done = got(f"mar://HOST/{ALB}:1.7.12", "cert.pem", "key.pem", "")
    assert done.returncode == 0
    assert b"client certificates are ignored" in done.stderr


@pytest.mark.parametrize(
    ("path", "environment", "told"),
    [
        ("dotnet/aspnet:6.0", {}, b"Helm accepts only charts"),
        (ALB, {"MARFETCH_DATA_HOSTS": "elsewhere.example"}, b"`MARFETCH_DATA_HOSTS=127.0.0.1"),
    ],
)
def test_hints_name_nothing_that_helm_does_not_have(got: Got, path: str, environment: dict[str, str], told: bytes) -> None:
    done = got(f"mar://HOST/{path}", **environment)
    assert done.returncode != 0
    assert told in done.stderr
    for option in (b"--endpoint", b"--data-host", b"--cache-dir", b"--kind", b"--timeout"):
        assert option not in done.stderr


def test_an_unnamed_host_gets_no_request(got: Got) -> None:
    done = got("mar://evil.example/aks/index.yaml")
    assert (done.returncode, done.stdout) == (4, b"")
