"""What Helm asks of us: addresses, the index, the getter by itself, and both plugins in place."""

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

from marfetch import __version__
from marfetch.chart import chart_facts, created, index
from marfetch.charts import FRESH, FRESH_IF_INCOMPLETE, NEWEST, build_index, kept_index
from marfetch.client import Client
from marfetch.errors import Error, InputError, PolicyError, StorageError
from marfetch.helm.address import ChartAddress, IndexAddress, parse
from marfetch.helm.setup import GETTER, PLUGIN, plugins_directory, set_up, set_up_getter
from marfetch.kept import Kept
from marfetch.oci import Digest
from marfetch.reference import Host, Reference

from ..world import charts
from ..world.command import Run, document, line, surroundings
from ..world.content import ALB
from ..world.paths import ROOT
from ..world.registry import Registry

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
DIGEST = Digest.of(b"x")
Got = Callable[..., subprocess.CompletedProcess[bytes]]


def add_chart(mar: Registry, repository: str, tag: str, metadata: Any = None, **annotations: str) -> Digest:
    """A chart; returns the digest of its package."""
    package = f"{repository} {tag}".encode()
    config = json.dumps({"name": "x", "version": "1"} if metadata is None else metadata).encode()
    charts.add_chart(mar, repository, tag, package, config=config, artifactType=HELM_CONFIG, annotations=annotations)
    return Digest.of(package)


@pytest.fixture
def got(mar: Registry, tmp_path: Path) -> Got:
    """Runs the getter as Helm does, with three empty files before the address."""

    def get(url: str, *before: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        given = {**surroundings(cache=tmp_path / "cache"), "MARFETCH_DATA_HOSTS": mar.data_host, **environment}
        words = line("getter", *(before or ("", "", "")), url.replace("HOST", mar.host))
        return subprocess.run(words, cwd=tmp_path, env=given, capture_output=True, timeout=60, check=False)

    return get


def entries(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)["entries"]
    return found


# -- addresses


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("mar://mcr.microsoft.com/index.yaml", ""),
        ("mar://mcr.microsoft.com/aks/index.yaml", "aks"),
        ("MAR://mcr.microsoft.com/a/b/c/index.yaml", "a/b/c"),
    ],
)
def test_addresses_of_indexes(url: str, path: str) -> None:
    assert parse(url) == IndexAddress("mcr.microsoft.com", path)


CHARTS: list[tuple[str, list[str], str | None, bool]] = [
    ("aks/toy:1.2.3/toy-1.2.3.tgz", ["aks/toy:1.2.3"], None, False),
    ("aks/toy:v1.2.3/toy-v1.2.3.tgz.prov", ["aks/toy:v1.2.3"], None, True),
    (f"aks/toy@{DIGEST}/toy-1.2.3.tgz", [f"aks/toy@{DIGEST}"], None, False),
    ("aks/toy:1.2.3_b.5/toy-1.2.3+b.5.tgz", ["aks/toy:1.2.3_b.5"], None, False),
    ("aks/toy/toy-1.2.3.tgz", ["aks/toy", "aks/toy/toy"], "1.2.3", False),
    ("aks/toy-1.2.3.tgz", ["aks/toy"], "1.2.3", False),
    ("aks/my-2-toy-1.2.3-rc.1+b.tgz", ["aks/my-2-toy"], "1.2.3-rc.1+b", False),
    ("toy-1.2.3.tgz", ["toy"], "1.2.3", False),
    ("aks/toy:1.2.3", ["aks/toy:1.2.3"], None, False),
    (f"aks/toy@{DIGEST}", [f"aks/toy@{DIGEST}"], None, False),
    ("aks/toy", ["aks/toy"], None, False),
    ("aks/toy?version=^1", ["aks/toy"], "^1", False),
    ("aks/toy?version=%5E1.prov", ["aks/toy"], "^1", True),
    ("aks/toy?version=2.0.0+build.5", ["aks/toy"], "2.0.0+build.5", False),
    ("aks/toy?version=%3E%3D1%20%3C3", ["aks/toy"], ">=1 <3", False),
]


@pytest.mark.parametrize(("path", "references", "version", "provenance"), CHARTS, ids=[one[0] for one in CHARTS])
def test_addresses_of_charts(path: str, references: list[str], version: str | None, provenance: bool) -> None:
    expected = tuple(Reference.parse(f"mcr.microsoft.com/{one}") for one in references)
    assert parse(f"mar://mcr.microsoft.com/{path}") == ChartAddress(expected, version, provenance)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "oci://mcr.microsoft.com/aks/toy",
        "mar://mcr.microsoft.com",
        "mar://mcr.microsoft.com/",
        "mar:///aks/toy",
        "mar://mcr.microsoft.com/aks//toy",
        "mar://mcr.microsoft.com/aks/../toy",
        "mar://mcr.microsoft.com/Aks/toy:1",
        "mar://mcr.microsoft.com/aks/toy.tgz",
        "mar://mcr.microsoft.com/aks/toy-latest.tgz",
        "mar://mcr.microsoft.com/aks/toy?tag=1",
        "mar://mcr.microsoft.com/aks/toy?version=1&version=2",
        "mar://mcr.microsoft.com/aks/toy-1.2.3.tgz?version=1",
        "mar://mcr.microsoft.com/aks/%2e%2e/toy:1",
        "mar://u:p@mcr.microsoft.com/aks/toy:1",
        "mar://10.0.0.1/aks/index.yaml",
        "mar://mcr.microsoft.com/a b/index.yaml",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises((InputError, PolicyError)):
        parse(url)


# -- the index


def test_an_index_holds_every_version_with_what_is_known_of_the_newest(mar: Registry, got: Got) -> None:
    tags = [f"1.{number}.0" for number in range(NEWEST + 5)]
    packages = {tag: add_chart(mar, "aks/toy", tag, {"name": "toy", "appVersion": f"v{tag}", "description": "a toy"}) for tag in tags}
    add_chart(mar, "aks/toy", "v2.0.0_b.5")
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


def test_of_many_getters_at_once_one_builds(mar: Registry, tmp_path: Path, client: Callable[..., Client]) -> None:
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
    kept = Kept(tmp_path, "indexes")
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
    mar: Registry, client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    from marfetch import charts

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
    # Helm runs again and again: none of its processes asks before the time that one was told.
    mar.honestly()
    done = got("mar://HOST/sub/index.yaml")
    assert (done.returncode, done.stdout, mar.asked) == (7, b"", [])
    assert b"as it told another marfetch" in done.stderr
    assert b"--timeout" not in done.stderr
    assert b"--cache-dir" not in done.stderr
    shutil.rmtree(Path(os.environ["MARFETCH_CACHE_DIR"]) / "kept" / "pauses")
    assert sorted(entries(got("mar://HOST/sub/index.yaml"))) == ["one", "three", "two"]


def test_an_index_in_which_something_is_missing_says_why_and_is_kept_for_a_moment_only(
    mar: Registry, client: Callable[..., Client], heard: Any
) -> None:
    for name in ("one", "two"):
        add_chart(mar, f"sub/{name}", "1.0.0")
    mar.on("tags", "/sub/two/").answers(401)

    def build() -> list[str]:
        return sorted(json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "sub"))["entries"])

    assert build() == ["one"]
    (warning,) = (one for one in heard.warnings if "could not be looked at" in one)
    assert warning.startswith(f"1 of 2 repositories below `{mar.host}/sub`")
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
    mar: Registry, client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    from marfetch import charts

    for name in ("one", "two"):
        add_chart(mar, f"sub/{name}", "1.0.0")
    mar.on("tags", "/sub/two/").stalls_before_headers()
    monkeypatch.setattr(charts, "NAMESPACE_TIME", 2.0)
    index = json.loads(build_index(client(), Reference("x", Host.parse(mar.host)), "sub"))
    assert list(index["entries"]) == ["one"]
    assert any("not done within the 2 s that one call spends on a namespace" in warning for warning in heard.warnings)


@pytest.mark.slow
def test_of_a_repository_what_is_no_chart_is_left_out_however_new(mar: Registry, got: Got) -> None:
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
    assert b"nobody has signed" in done.stderr


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
    assert moved == package  # the tag has another manifest now, with the same package
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
def test_where_anything_is_wrong_stdout_stays_empty_and_one_line_says_why(mar: Registry, got: Got, trouble: str) -> None:
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
    assert b"client certificates are not used" in done.stderr


@pytest.mark.parametrize(
    ("path", "environment", "told"),
    [
        ("dotnet/aspnet:6.0", {}, b"Helm takes charts"),
        (ALB, {"MARFETCH_DATA_HOSTS": "elsewhere.example"}, b"`MARFETCH_DATA_HOSTS=127.0.0.1"),
    ],
)
def test_hints_name_nothing_that_helm_does_not_have(got: Got, path: str, environment: dict[str, str], told: bytes) -> None:
    done = got(f"mar://HOST/{path}", **environment)
    assert done.returncode != 0
    assert told in done.stderr
    for option in (b"--endpoint", b"--data-host", b"--cache-dir", b"--kind", b"--timeout"):
        assert option not in done.stderr


def test_a_host_that_nobody_named_is_not_asked(got: Got) -> None:
    done = got("mar://evil.example/aks/index.yaml")
    assert (done.returncode, done.stdout) == (4, b"")


# -- both plugins in place


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_both_plugins_are_put_in_place_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    plugins = tmp_path / "a folder" / "plugins"
    assert [one.changed for one in set_up(plugins)] == [True, True]
    before = files(plugins)
    assert [one.changed for one in set_up(plugins)] == [False, False]
    assert files(plugins) == before
    assert sorted(path.name for path in plugins.iterdir()) == [PLUGIN, GETTER]
    assert os.access(plugins / GETTER / "mar-get", os.X_OK)
    assert os.access(plugins / PLUGIN / "marfetch", os.X_OK)


def test_a_changed_file_is_set_right(tmp_path: Path) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("broken")
    (tmp_path / GETTER / "more").write_text("x")
    assert [one.changed for one in set_up(tmp_path)] == [False, True]
    assert (tmp_path / GETTER / "mar-get").read_text().startswith("#!/bin/sh")
    assert not (tmp_path / GETTER / "more").exists()


def test_a_foreign_plugin_of_the_same_name_is_not_touched(tmp_path: Path) -> None:
    tmp_path = tmp_path / "plugins"
    other = tmp_path / "marfetch.git"
    other.mkdir(parents=True)
    (other / "plugin.yaml").write_text('name: "marfetch"\nversion: 0.0.1\n')
    with pytest.raises(StorageError, match=r"marfetch\.git"):
        set_up(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marfetch.git"]
    (other / "plugin.yaml").write_text('{"version": "0.0.1", "name": "marfetch"}')
    with pytest.raises(StorageError, match=r"marfetch\.git"):
        set_up(tmp_path)
    mine = tmp_path / GETTER
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="is not a plugin of marfetch"):
        set_up_getter(other)
    (other / "marfetch" / "helm").mkdir(parents=True)
    (other / "marfetch" / "helm" / "launch").touch()
    with pytest.raises(StorageError, match="it is not replaced"):
        set_up_getter(other)
    assert (mine / "notes.txt").read_text() == "mine"


def _file(path: Path) -> None:
    path.write_text("x")


def made(path: Path) -> Path:
    path.mkdir()
    return path


def _plugin(path: Path, name: str, **more: str) -> None:
    path.mkdir()
    (path / "plugin.yaml").write_text(f'{{"version": "1.0.0", "name": "{name}"}}\n')
    for file, text in more.items():
        (path / file).write_text(text)


@pytest.mark.parametrize("name", [PLUGIN, GETTER])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_file, id="a file"),
        pytest.param(lambda path: _plugin(path, "other"), id="another plugin"),
        pytest.param(lambda path: _file(made(path) / "data"), id="a folder of something"),
    ],
)
def test_what_is_not_ours_is_never_replaced(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    make(plugins / name)
    before = files(tmp_path)
    with pytest.raises(StorageError) as caught:
        set_up(plugins)
    assert (caught.value.code, caught.value.context["path"]) == ("file-differs", str(plugins / name))
    assert files(tmp_path) == before


def test_a_plugin_with_data_of_its_own_is_not_replaced(tmp_path: Path) -> None:
    _plugin(tmp_path / PLUGIN, PLUGIN, notes="mine")
    with pytest.raises(StorageError, match="it is not replaced"):
        set_up(tmp_path)
    assert (tmp_path / PLUGIN / "notes").read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_a_plugin_that_helm_has_installed_is_left_and_gets_its_getter(tmp_path: Path, linked: bool) -> None:
    plugins, plugin = tmp_path / "plugins", tmp_path / "checkout"
    (plugin / "marfetch" / "helm").mkdir(parents=True)
    (plugin / "marfetch" / "helm" / "launch").write_text("#!/bin/sh\necho launched\n")
    (plugin / "marfetch" / "helm" / "launch").chmod(0o755)
    (plugin / "plugin.yaml").write_text("name: marfetch\n")
    plugins.mkdir()
    if linked:
        (plugins / PLUGIN).symlink_to(plugin)
    else:
        plugin.rename(plugins / PLUGIN)
    before = files(plugins / PLUGIN)
    assert [(one.name, one.changed) for one in set_up(plugins)] == [(PLUGIN, False), (GETTER, True)]
    assert files(plugins / PLUGIN) == before
    assert (plugins / PLUGIN).is_symlink() is linked
    line = [str(plugins / GETTER / "mar-get"), "mar://x/y"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "launched\n"


def test_in_no_moment_does_helm_see_two_plugins_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("broken")
    seen = []

    def looked_at(self: Path, target: Path) -> Path:
        # What Helm would find in this moment (Go's glob takes hidden folders too).
        seen.append(sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/plugin.yaml")))
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", looked_at)
    set_up(tmp_path)
    assert seen == [[f"{GETTER}/plugin.yaml", f"{PLUGIN}/plugin.yaml"], [f"{PLUGIN}/plugin.yaml"]]
    assert [path.name for path in tmp_path.glob(".marfetch-*")] == []


def test_what_cannot_be_put_in_place_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("older")
    before = files(tmp_path)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "no", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StorageError):
        set_up(tmp_path)
    assert files(tmp_path) == before


def test_what_a_killed_process_left_is_taken_away_after_a_while(tmp_path: Path) -> None:
    old, new = tmp_path / ".marfetch-old", tmp_path / ".marfetch-new"
    for one in (old, new):
        one.mkdir()
    os.utime(old, (1, 1))
    set_up(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_on_windows_helm_starts_a_program_and_no_batch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from marfetch.helm import setup

    monkeypatch.setattr(setup, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "Scripts"))
    with pytest.raises(StorageError, match=r"mar-get\.exe"):
        set_up(tmp_path / "plugins")
    assert not (tmp_path / "plugins").exists()
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "mar-get.exe").write_bytes(b"MZ\0\xff")
    set_up(tmp_path / "plugins")
    assert sorted(path.name for path in (tmp_path / "plugins" / GETTER).iterdir()) == ["mar-get.exe", "plugin.yaml"]
    assert (tmp_path / "plugins" / GETTER / "mar-get.exe").read_bytes() == b"MZ\0\xff"


@pytest.mark.parametrize("how", ["getter", "command"])
def test_modules_in_the_directory_of_the_user_are_not_run(tmp_path: Path, how: str) -> None:
    set_up(tmp_path / "plugins")
    for name in ("marfetch/__init__.py", "marfetch/__main__.py", "platformdirs.py", "dataclasses.py"):
        (tmp_path / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chart" / name).write_text("print('evil bytes')\nraise SystemExit(0)\n")
    lines: dict[str, list[str | Path]] = {
        "getter": [tmp_path / "plugins" / GETTER / "mar-get", "mar://x"],
        "command": [tmp_path / "plugins" / PLUGIN / "marfetch", "version"],
    }
    done = subprocess.run(lines[how], cwd=tmp_path / "chart", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((2, "") if how == "getter" else (0, f"marfetch {__version__}\n"))


def test_the_python_that_the_user_names_is_the_one_or_it_is_said(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())

    def launch(python: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MARFETCH_PYTHON": python}
        return subprocess.run(["sh", here / "launch", "version"], env=environment, capture_output=True, text=True, check=False)

    (tmp_path / "mypython").write_text('#!/bin/sh\necho "started: $*"\n')
    (tmp_path / "mypython").chmod(0o755)
    assert launch("mypython").stdout == "started: -P -m marfetch version\n"
    missing = launch("/nonexistent/python")
    assert (missing.returncode, missing.stdout) == (127, "")
    assert "MARFETCH_PYTHON names `/nonexistent/python`, which cannot be run" in missing.stderr


def test_a_python_without_our_packages_is_named(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from marfetch.__main__ import main; sys.exit(main())",
    ]
    done = subprocess.run([*line, "versions", "x/y"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "")
    assert f"the Python `{sys.executable}` lacks the package" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_getter_starts_the_launcher_of_the_plugin_beside_it(tmp_path: Path) -> None:
    plugin = tmp_path / "my plugins" / "marfetch.git"
    (plugin / "marfetch" / "helm").mkdir(parents=True)
    (plugin / "plugin.yaml").write_text("name: marfetch\n")
    launch = plugin / "marfetch" / "helm" / "launch"
    launch.write_text('#!/bin/sh\necho "$#: $*"\n')
    launch.chmod(0o755)
    set_up_getter(plugin)
    line = [str(tmp_path / "my plugins" / GETTER / "mar-get"), "", "", "", "mar://x/y"]
    assert subprocess.run(line, capture_output=True, text=True, check=True, cwd="/").stdout == "5: getter    mar://x/y\n"


def test_the_plugin_folder_is_the_one_that_helm_would_take(tmp_path: Path) -> None:
    none = {"HELM_BIN": "/nonexistent/helm"}
    assert plugins_directory({**none, "HELM_PLUGINS": "/a:/b"}) == Path("/a")
    assert plugins_directory({**none, "HELM_DATA_HOME": "/d"}) == Path("/d/plugins")
    assert plugins_directory({**none, "XDG_DATA_HOME": "/x"}) == Path("/x/helm/plugins")


def test_without_a_python_the_launcher_says_what_to_do_in_one_line(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())
    done = subprocess.run(["sh", here / "launch", "version"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "hook' install" in done.stderr


def test_an_environment_that_is_not_whole_is_not_started(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "started: $*"\n')
    python.chmod(0o755)

    def launch() -> tuple[int, str]:
        done = subprocess.run(
            ["sh", here / "launch", "version"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert launch() == (127, "")
    for mark in (".locked", ".runtime"):
        (tmp_path / ".venv" / mark).touch()
        assert launch() == (0, "started: -P -m marfetch version\n")
        (tmp_path / ".venv" / mark).unlink()


SAFE_KEYS = {"name", "version", "usage", "description", "command", "platformCommand", "ignoreFlags", "hooks", "downloaders"}


def test_the_plugin_files_hold_nothing_that_breaks_an_older_helm(tmp_path: Path) -> None:
    import yaml

    set_up(tmp_path)
    for path in (ROOT / "plugin.yaml", tmp_path / PLUGIN / "plugin.yaml", tmp_path / GETTER / "plugin.yaml"):
        plugin = yaml.safe_load(path.read_text())
        assert set(plugin) <= SAFE_KEYS
        assert not {"command", "platformCommand"} <= set(plugin)
        assert ("downloaders" in plugin) is (plugin["name"] == GETTER)
        assert plugin["version"] == __version__
        assert set(plugin.get("hooks", {})) <= {"install", "update", "delete"}
        assert [one["os"] for one in plugin.get("platformCommand", [])] in ([], ["linux", "darwin", "windows"])


def test_the_tree_is_one_that_every_helm_can_install() -> None:
    tracked = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    paths = {line.split("\t")[1]: line.split()[0] for line in tracked}
    assert [path for path, mode in paths.items() if mode == "120000"] == []  # Helm 4 takes no links
    assert next(path for path in sorted(paths) if path.endswith("plugin.yaml")) == "plugin.yaml"
    for name in ("launch", "hook", "environment"):
        assert paths.get(f"marfetch/helm/{name}", "100755") == "100755"


def test_setup_says_what_it_did(run: Run, tmp_path: Path) -> None:
    done = run("setup", "--plugins", str(tmp_path / "plugins"), "--json")
    found = document(done)["data"]["plugins"]
    assert [(one["name"], one["changed"]) for one in found] == [(PLUGIN, True), (GETTER, True)]
    (tmp_path / "file").write_text("x")
    assert run("setup", "--plugins", str(tmp_path / "file" / "x")).returncode == 9


def test_errors_of_addresses_are_errors_of_marfetch() -> None:
    with pytest.raises(Error) as caught:
        parse("mar://mcr.microsoft.com/aks/toy.tgz?sig=secret")
    assert "secret" not in str(caught.value)
