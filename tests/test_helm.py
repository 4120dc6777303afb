"""What Helm asks of us: addresses, the index, the getter by itself, and both plugins in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from marfetch import __version__
from marfetch.chart import chart_facts, created, index
from marfetch.charts import FRESH, NEWEST, build_index, kept_index
from marfetch.client import Client
from marfetch.errors import Error, InputError, PolicyError, StorageError
from marfetch.helm.address import ChartAddress, IndexAddress, parse
from marfetch.helm.setup import GETTER, PLUGIN, plugins_directory, set_up, set_up_getter
from marfetch.kept import Kept
from marfetch.oci import Digest, descriptor_json
from marfetch.reference import Host, Reference

from .registry import Registry
from .test_cli import ALB, ROOT, Run, document, run

__all__ = ["run"]

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
DIGEST = Digest.of(b"x")
Got = Callable[..., subprocess.CompletedProcess[bytes]]


def add_chart(mar: Registry, repository: str, tag: str, metadata: Any = None, **annotations: str) -> Digest:
    """A chart; returns the digest of its package."""
    package = mar.add_blob(f"{repository} {tag}".encode())
    config = mar.add_blob(json.dumps({"name": "x", "version": "1"} if metadata is None else metadata).encode())
    layer = {**descriptor_json(package), "mediaType": HELM_CHART}
    whole = {"config": {**descriptor_json(config), "mediaType": HELM_CONFIG}, "layers": [layer], "annotations": annotations}
    mar.add_artifact(repository, tag, artifactType=HELM_CONFIG, **whole)
    return package.digest


@pytest.fixture
def got(mar: Registry, tmp_path: Path) -> Got:
    """Runs the getter as Helm does, with three empty files before the address."""

    def get(url: str, *before: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        surroundings = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "PYTHONPATH": str(ROOT),
            "MARFETCH_CACHE_DIR": str(tmp_path / "cache"),
            "MARFETCH_DATA_HOSTS": mar.data_host,
            **environment,
        }
        line = [sys.executable, "-m", "marfetch", "getter", *(before or ("", "", "")), url.replace("HOST", mar.host)]
        return subprocess.run(line, cwd=tmp_path, env=surroundings, capture_output=True, timeout=60, check=False)

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


def test_every_address_of_an_index_can_be_fetched(mar: Registry, got: Got) -> None:
    package = add_chart(mar, "aks/toy", "1.2.3_b.5")
    (entry,) = entries(got("mar://HOST/aks/toy/index.yaml"))["toy"]
    done = got(entry["urls"][0])
    assert Digest.of(done.stdout) == package
    assert entry["digest"] == package.encoded
    assert entry["urls"][0].endswith("/toy-1.2.3+b.5.tgz")


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
    assert any("2 repositories below" in warning for warning in heard.warnings)
    assert known(4) == ["toy0", "toy1", "toy2", "toy3"]


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


def test_an_empty_index_is_one() -> None:
    assert json.loads(index({"toy": []}, host="h")) == {"apiVersion": "v1", "entries": {}}
    assert chart_facts({}) == {"apiVersion": "v2"}


def test_the_command_prints_the_same_index_and_writes_it_for_a_web_server(run: Run, tmp_path: Path) -> None:
    printed = json.loads(run("index", ALB).stdout)
    assert [one["version"] for one in printed["entries"]["alb-controller"]][:2] == ["1.11.4", "1.10.27"]
    assert document(run("index", ALB, "--json"))["data"]["index"] == printed
    done = run("index", ALB, "azure-application-gateway/charts/ingress-azure", "-o", "site/index.yaml")
    assert done.stdout == "site/index.yaml\n"
    assert set(json.loads((tmp_path / "here" / "site" / "index.yaml").read_text())["entries"]) == {"alb-controller", "ingress-azure"}
    assert run("index", f"{ALB}:1.7.12").returncode == 2
    assert run("index", "bicep/avm/res/storage/storage-account").returncode == 4
    assert run("index", ALB, "-o", ".").returncode == 9


# -- the getter


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
    mine = tmp_path / GETTER
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(StorageError):
        set_up_getter(other)
    assert (mine / "notes.txt").read_text() == "mine"


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
        assert launch() == (0, "started: -m marfetch version\n")
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
