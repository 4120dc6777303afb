"""The current code reads the data of version 0.1 (`fixtures/wave1`), so an update breaks no project, cache or bundle.

Only results are checked: exit codes, paths, digests. If a test here fails, correct the code and not the test.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from marfetch.__main__ import main
from marfetch.layout.layout import Layout
from marfetch.reference import Host

from .world.proxy import Proxy
from .world.real import distribution
from .world.registry import Registry
from .world.tls import DATA_NAME, server_context

ROOT = Path(__file__).parents[1]
WAVE1 = ROOT / "fixtures" / "wave1"
BUNDLE, DELTA = WAVE1 / "bundle.tar", WAVE1 / "delta.tar"
MAR = "mcr.microsoft.com"
ALB = "application-lb/charts/alb-controller"
INGRESS = "azure-application-gateway/charts/ingress-azure"
SIGNED = ("bicep/extensions/microsoftgraph/v1.0:1.0.0", f"{INGRESS}:1.9.1")
WRITTEN = {name: digest for digest, name in (line.split("  ") for line in (WAVE1 / "project" / "files.sha256").read_text().splitlines())}
"""Path in the project → digest, as version 0.1 wrote them."""
SBOM = "cleanroom-whl@sha256-8a1a22dd0db561d24f07e6ef8fa5825778be13029121a63ab35e037dbee63ee6.spdx.json"
MOVED = {
    # Now publishers cannot choose the names of directories, and each referrer has its own directory.
    "node/amd64/kubernetes-node-linux-amd64/kubernetes/node/bin/kubelet": "node/kubernetes-node/node/bin/kubelet",
    f"wheel/{SBOM}": f"wheel/cleanroom-whl.referrers/{SBOM.partition('sha256-')[2].partition('.')[0]}/{SBOM}",
}
FILES = {MOVED.get(name, name): digest for name, digest in WRITTEN.items()}
"""Path in the project → digest, as the current version writes it."""
NEWER_CHART = "b61d9f3d5c6aff01c735af2618f87887b52e2ee0694281534b7af5d58b172ab2"
"""The digest of the chart in the newer lock. The recorded cache has only a part of it."""
Run = Callable[..., tuple[int, dict[str, Any]]]


def locked(project: str) -> dict[str, dict[str, Any]]:
    """Return name → entry of a recorded lock, without using marfetch's reader."""
    return {entry["name"]: entry for entry in json.loads((WAVE1 / project / "marfetch.lock").read_text())["artifacts"]}


def digests(directory: Path) -> dict[str, str]:
    """Return path → digest of all files below a directory, except the project file and the lock file."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("marfetch.yaml", "marfetch.lock")
    }


def copied(name: str, to: Path) -> Path:
    """Return a writable copy with the original permissions of the directory."""
    to.mkdir(mode=0o700, parents=True)
    for path in sorted((WAVE1 / name).rglob("*")):
        place = to / path.relative_to(WAVE1 / name)
        if path.is_dir():
            place.mkdir(mode=0o700)
        elif path.name != "files.sha256":
            place.write_bytes(path.read_bytes())
    return to


@pytest.fixture(params=[0, 400 * 86_400], ids=["just written", "written a year ago"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Set up the recorded cache for all commands."""
    made = copied("cache", tmp_path / "cache")
    moment = time.time() - request.param
    for path in made.rglob("*"):
        os.utime(path, (moment, moment))
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copied("project", tmp_path / "project")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in the directory `at` with the recorded trust policy. It returns exit code and JSON."""
    monkeypatch.setenv("NOTATION_CONFIG", str(WAVE1 / "notation" / "config"))
    monkeypatch.setenv("NOTATION_CACHE", str(tmp_path / "notation-cache"))

    def go(*words: object, at: Path = tmp_path) -> tuple[int, dict[str, Any]]:
        monkeypatch.chdir(at)
        capsys.readouterr()
        code = main([*map(str, words), "--json"])
        document = json.loads(capsys.readouterr().out)
        return code, document.get("data") or document

    return go


@pytest.fixture
def mirror(run: Run, tmp_path: Path) -> Path:
    """Load both recorded bundles into one folder."""
    for path in (BUNDLE, DELTA):
        assert run("bundle", "load", path, "--to", tmp_path / "mirror", "--cache-dir", tmp_path / "loading")[0] == 0
    return tmp_path / "mirror"


@pytest.fixture
def official(mirror: Path, ca: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Serve both bundles as a registry. A proxy directs MAR's host names to it."""
    context = server_context(ca.issue_cert(MAR, f"*.data.{MAR}"))
    with (
        Registry(Layout(mirror), names=Host(MAR), context=context) as registry,
        Proxy({MAR: registry.port, DATA_NAME: registry.data_port}) as proxy,
    ):
        registry.data_origin = f"https://{DATA_NAME}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        yield registry


# -- project and lock


@pytest.mark.parametrize("name", ["project", "newer"])
def test_the_lock_is_read_and_fits(run: Run, tmp_path: Path, name: str) -> None:
    at = copied(name, tmp_path / name)
    code, data = run("lock", "--check", at=at)
    assert (code, data["fits"]) == (0, True)
    assert {one["name"]: one["reference"] for one in data["artifacts"]} == {key: entry["reference"] for key, entry in locked(name).items()}


def test_the_lock_is_still_the_one_that_is_written(run: Run, official: Registry, cache: Path, project: Path) -> None:
    before = (project / "marfetch.lock").read_bytes()
    code, data = run("lock", at=project)
    assert (code, data["written"], data["failed"]) == (0, False, [])
    assert (project / "marfetch.lock").read_bytes() == before


def test_a_change_of_the_project_keeps_every_other_entry(run: Run, official: Registry, cache: Path, project: Path) -> None:
    (project / "marfetch.yaml").write_bytes((WAVE1 / "newer" / "marfetch.yaml").read_bytes())
    assert run("lock", "--check", at=project)[0] == 8
    assert run("lock", at=project)[0] == 0
    found = {entry["name"]: entry["reference"] for entry in json.loads((project / "marfetch.lock").read_text())["artifacts"]}
    assert found == {name: entry["reference"] for name, entry in locked("newer").items()}


def test_everything_comes_from_the_cache_without_a_network(run: Run, cache: Path, project: Path) -> None:
    code, data = run("sync", "--locked", "--offline", at=project)
    assert (code, {one["outcome"] for one in data["artifacts"]}) == (0, {"fetched"})
    assert {one["name"]: one["reference"].rpartition("@")[2] for one in data["artifacts"]} == {
        name: entry["digest"] for name, entry in locked("project").items()
    }
    assert digests(project) == FILES
    code, data = run("sync", "--locked", "--offline", at=project)
    assert (code, {one["outcome"] for one in data["artifacts"]}) == (0, {"unchanged"})


def test_everything_comes_from_the_registry_without_a_cache(run: Run, official: Registry, project: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    shutil.copytree(WAVE1 / "cache" / "crl", tmp_path / "cache" / "crl")  # this revocation list is not published anywhere
    code, data = run("sync", "--locked", at=project)
    assert (code, {one["outcome"] for one in data["artifacts"]}) == (0, {"fetched"})
    assert digests(project) == FILES


def test_newer_versions_are_reported(run: Run, official: Registry, cache: Path, project: Path) -> None:
    assert run("outdated", at=project)[0] == 1
    assert run("outdated", at=copied("newer", project.parent / "newer"))[0] == 0


# -- the cache


def test_the_cache_is_whole_and_stays_so(run: Run, cache: Path, project: Path) -> None:
    code, data = run("cache", "info")
    assert (code, data["names"], data["blobs"], data["unfinished"]) == (0, 15, 50, 1)
    assert run("cache", "verify")[0] == 0
    assert run("cache", "prune")[0] == 0
    assert run("cache", "verify")[0] == 0
    assert run("sync", "--locked", "--offline", at=project)[0] == 0
    assert digests(project) == FILES
    assert run("cache", "clear")[0] == 0
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock" and path.parent.name != "crl"] == []


@pytest.mark.parametrize("reference", SIGNED)
def test_a_signature_holds_by_what_the_cache_has(run: Run, cache: Path, reference: str) -> None:
    """The cache also has the revocation list of the signing certificate, which is not published anywhere."""
    code, data = run("verify", reference, "--offline")
    assert (code, data["verdict"]) == (0, "verified")
    assert {one["code"] for one in data["signatures"]} == {"OK"}


def test_a_download_that_was_cut_ends_well(run: Run, official: Registry, cache: Path, tmp_path: Path) -> None:
    (part,) = (cache / "ingest").iterdir()
    assert NEWER_CHART in part.name
    assert run("pull", f"{ALB}:1.8.12", "-d", tmp_path / "out")[0] == 0
    assert digests(tmp_path / "out") == {"alb-controller-1.8.12.tgz": NEWER_CHART}
    assert run("cache", "info")[1]["unfinished"] == 0


def test_old_records_are_never_in_the_way(run: Run, official: Registry, cache: Path) -> None:
    """Recorded tag lists, catalogs, pauses, data hosts and search results may be used or ignored, but must not make a command fail."""
    assert run("versions", ALB)[0] == 0
    assert run("versions", ALB, "--details")[0] == 0
    code, data = run("search", "charts", "--kind", "chart")
    assert (code, {ALB, INGRESS} <= {one["name"] for one in data["repositories"]}) == (0, True)
    assert run("resolve", ALB, "--version", "~1.7")[0] == 0
    assert run("cache", "verify")[0] == 0


def test_words_are_completed_from_the_cache(run: Run, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "pull", "application-lb/"]) == 0
    assert ALB in capsys.readouterr().out


# -- Helm


def helm_folder(tmp_path: Path, name: str) -> Path:
    """Return a copy of a recorded plugin folder."""
    with tarfile.open(WAVE1 / "helm.tar") as archive:
        archive.extractall(tmp_path / "helm", filter="tar")
    return tmp_path / "helm" / name


def getter(program: Path | str, address: str, **environment: str) -> bytes:
    """Run a getter as Helm does, and return its output."""
    surroundings = {**os.environ, "MARFETCH_PYTHON": sys.executable, **environment}
    done = subprocess.run([program, "", "", "", address], env=surroundings, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_setup_updates_the_plugins_that_it_wrote(run: Run, official: Registry, cache: Path, tmp_path: Path) -> None:
    plugins = helm_folder(tmp_path, "pip")
    code, data = run("setup", "--plugins", plugins)
    assert (code, {one["name"] for one in data["plugins"]}) == (0, {"marfetch", "marfetch-getter"})
    assert sorted(path.name for path in plugins.iterdir()) == ["marfetch", "marfetch-getter"]
    assert {one["changed"] for one in run("setup", "--plugins", plugins)[1]["plugins"]} == {False}
    address = f"mar://{MAR}/{ALB}:1.7.12/alb-controller-1.7.12.tgz"
    chart = getter(plugins / "marfetch-getter" / "mar-get", address, PYTHONPATH=str(ROOT))
    assert hashlib.sha256(chart).hexdigest() == FILES["charts/alb-controller-1.7.12.tgz"]


@pytest.mark.parametrize("is_updated", [False, True], ids=["by the old plugin", "by the new plugin"])
def test_removing_the_plugin_removes_the_getter(run: Run, tmp_path: Path, is_updated: bool) -> None:
    plugins = helm_folder(tmp_path, "pip")
    hook = yaml.safe_load((plugins / "marfetch" / "plugin.yaml").read_text())["hooks"]["delete"]
    assert run("setup", "--plugins", plugins)[0] == 0
    if is_updated:
        hook = yaml.safe_load((plugins / "marfetch" / "plugin.yaml").read_text())["hooks"]["delete"]
    environment = {**os.environ, "HELM_PLUGIN_DIR": str(plugins / "marfetch")}
    subprocess.run(["sh", "-c", hook], env=environment, check=True, timeout=20)
    assert [path.name for path in plugins.iterdir()] == ["marfetch"]


def test_the_getter_beside_a_plugin_of_helm_starts_the_updated_one(run: Run, official: Registry, cache: Path, tmp_path: Path) -> None:
    """`helm plugin update` replaces the plugin but not the getter. So the launcher must stay at the path that the old getter uses."""
    plugins = helm_folder(tmp_path, "git")
    (plugins / "marfetch").mkdir()
    shutil.copytree(ROOT / "marfetch", plugins / "marfetch" / "marfetch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "plugin.yaml", plugins / "marfetch")
    old = plugins / "marfetch-getter" / "mar-get"
    index = json.loads(getter(old, f"mar://{MAR}/application-lb/index.yaml"))
    assert "1.7.12" in {one["version"] for one in index["entries"]["charts/alb-controller"]}
    address = f"mar://{MAR}/{INGRESS}:1.9.1/ingress-azure-1.9.1.tgz"
    assert hashlib.sha256(getter(old, address)).hexdigest() == FILES["charts/ingress-azure-1.9.1.tgz"]
    assert b"PGP SIGNED MESSAGE" in getter(old, f"{address}.prov")
    code, data = run("setup", "--getter-of", plugins / "marfetch")
    assert (code, [one["name"] for one in data["plugins"]]) == (0, ["marfetch-getter"])
    assert hashlib.sha256(getter(old, address)).hexdigest() == FILES["charts/ingress-azure-1.9.1.tgz"]


# -- bundles


def test_bundle_and_delta_are_whole(run: Run) -> None:
    for words in ((BUNDLE,), (DELTA, "--since", BUNDLE)):
        code, data = run("bundle", "verify", *words, "--offline", "--revocation", "skip")
        assert (code, data["missing"], data["extra"], data["wrong"]) == (0, [], [], [])
        verdicts = {one["reference"].partition("@")[0]: one["verdict"] for one in data["signatures"]}
        assert [verdicts[f"{MAR}/{reference}"] for reference in SIGNED] == ["verified", "verified"]


@pytest.mark.parametrize(("path", "name"), [(BUNDLE, "project"), (DELTA, "newer")])
def test_bundle_and_delta_name_what_was_locked(run: Run, path: Path, name: str) -> None:
    code, data = run("bundle", "inspect", path)
    assert code == 0
    assert {one["name"]: one["reference"] for one in data["artifacts"]} == {key: entry["reference"] for key, entry in locked(name).items()}


def test_the_difference_is_the_one_artifact(run: Run) -> None:
    code, data = run("bundle", "diff", BUNDLE, DELTA)
    assert (code, [one["name"] for one in data["artifacts"]]) == (1, ["alb-controller"])
    assert run("bundle", "diff", BUNDLE, BUNDLE)[0] == 0


def test_a_folder_gets_everything(mirror: Path, run: Run) -> None:
    wanted = {str(entry["digest"]).removeprefix("sha256:") for name in ("project", "newer") for entry in locked(name).values()}
    layers = {layer["digest"].removeprefix("sha256:") for entry in locked("newer").values() for layer in entry["layers"]}
    blobs = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (mirror / "blobs" / "sha256").iterdir()}
    assert wanted | layers <= set(blobs)
    assert all(name == digest for name, digest in blobs.items())
    code, data = run("bundle", "load", BUNDLE, "--to", mirror)
    assert (code, {one["outcome"] for one in data["artifacts"]}) == (0, {"unchanged"})


@pytest.mark.tool
def test_a_registry_gets_everything(run: Run, tool: Callable[[str], Path], tmp_path: Path) -> None:
    with distribution(tool("registry"), tmp_path / "registry") as host:
        for path, name in ((BUNDLE, "project"), (DELTA, "newer")):
            code, data = run("bundle", "load", path, "--to", f"{host}/mirror", "--plain-http")
            assert code == 0
            assert {one["reference"].rpartition("@")[2] for one in data["artifacts"]} == {
                entry["digest"] for entry in locked(name).values()
            }
        assert run("pull", f"{host}/mirror/{ALB}:1.8.12", "-d", tmp_path / "out")[0] == 0
    assert digests(tmp_path / "out") == {"alb-controller-1.8.12.tgz": NEWER_CHART}


@pytest.mark.parametrize("layout", ["cache", "bundle.tar"])
def test_cache_and_bundle_are_served(run: Run, tmp_path: Path, layout: str) -> None:
    path = copied("cache", tmp_path / "served") if layout == "cache" else WAVE1 / layout
    with served(path) as address:
        assert run("pull", f"{ALB}:1.7.12", "-d", tmp_path / "out", "--endpoint", address)[0] == 0
    assert digests(tmp_path / "out") == {"alb-controller-1.7.12.tgz": FILES["charts/alb-controller-1.7.12.tgz"]}


@contextlib.contextmanager
def served(layout: Path) -> Iterator[str]:
    """Run `marfetch serve` as a process, and yield its address."""
    line = [sys.executable, "-m", "marfetch", "serve", str(layout), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
