"""`helm marfetch` and `mar://` with the real Helm 3 and 4, against the embedded registry and distribution's."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from marfetch import __version__
from marfetch.oci import Descriptor, Digest, Manifest
from marfetch.reference import Reference

from ..world.content import ALB
from ..world.paths import ROOT
from ..world.real import distribution, package_chart
from ..world.real import run as run_tool
from .homes import Home, Tool, user

pytestmark = pytest.mark.tool


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is tracked here, as a git repository of one commit: what `helm plugin install` gets."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("not a git checkout")
    place = tmp_path_factory.mktemp("repository") / "marfetch"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    commit(place, "one")
    return place


def commit(place: Path, message: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for line in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(["git", *line], cwd=place, check=True, capture_output=True)


@pytest.fixture(params=["helm3", "helm4"])
def home(request: pytest.FixtureRequest, tool: Tool, tmp_path: Path) -> Iterator[Home]:
    """A home into which the plugin is not installed yet."""
    with user(tool(request.param), tmp_path / "a home") as one:
        yield one


@pytest.fixture
def ready(home: Home, repository: Path) -> Home:
    """A home into which it was installed as its README says."""
    done = home.install(repository)
    assert done.stdout.splitlines()[-1] == "Installed plugin: marfetch"
    return home


def test_one_install_gives_both_features(ready: Home) -> None:
    listed = ready.run("plugin", "list").stdout
    assert "marfetch-getter" in listed
    assert listed.count("marfetch") >= 2
    if ready.major == 4:
        assert "cli/v1" in listed
        assert "getter/v1" in listed
    assert (ready.plugins / "marfetch-getter" / "plugin.yaml").is_file()
    done = ready.run("marfetch", "version")
    assert done.stdout == f"marfetch {__version__}\n"


def test_arguments_and_exit_codes_pass_through(ready: Home) -> None:
    endpoint = f"http://{ready.host}"
    done = ready.run("marfetch", "pull", "nope/x", "--endpoint", endpoint, "--data-host", ready.data, code=3)
    assert done.returncode == 3
    assert "hint:" in done.stderr
    ready.run("marfetch", "pull", f"{ALB}:1.7.12", "-o", "mine.tgz", "--endpoint", endpoint, "--data-host", ready.data)
    assert (ready.home / "mine.tgz").read_bytes().startswith(b"\x1f\x8b")
    shown = ready.run("marfetch", "show", "chart", f"{ALB}:1.7.12", "--endpoint", endpoint, "--data-host", ready.data)
    assert shown.stdout == "apiVersion: v2\nname: alb-controller\nversion: 1.7.12\n"
    listed = ready.run(
        "--debug", "marfetch", "-n", "q", "versions", ALB, "--version", "^1.7", "--endpoint", endpoint, "--data-host", ready.data
    )
    assert listed.stdout.splitlines()[0] == "1.11.4\t1.11.4"
    assert " ms  " in listed.stderr  # HELM_DEBUG is heeded


def test_a_repository_can_be_added_searched_and_pulled_from(ready: Home) -> None:
    assert "has been added" in ready.run("repo", "add", "mar", f"mar://{ready.host}/application-lb/charts").stdout
    found = ready.run("search", "repo", "mar/", "--versions")
    versions = [line.split()[1] for line in found.stdout.splitlines()[1:]]
    assert versions == ["1.11.4", "1.10.27", "1.8.12", "1.7.12", "1.7.9", "1.0.7", "1.0.0", "0.4.023971", "0.4.023901"]
    assert found.stderr == ""
    ready.run("repo", "update")
    ready.run("pull", "mar/alb-controller", "--version", "~1.7")
    assert package_of(ready, ALB, "1.7.12").encoded == sha256(ready.home / "alb-controller-1.7.12.tgz")
    done = ready.run("template", "r", "mar/alb-controller", "--version", "^1.0.0")
    assert done.stdout.startswith("---")
    assert ready.run("show", "chart", "mar/alb-controller", "--version", "1.7.9").stdout.count("version: 1.7.9") == 1
    if ready.major == 4:  # the client side of Helm 3 asks a cluster too
        ready.run("install", "r", "mar/alb-controller", "--dry-run=client", "--version", "~1.7")


def package_of(home: Home, repository: str, tag: str) -> Digest:
    from marfetch.reference import Host

    assert home.layout is not None
    manifest = home.layout.manifest(Reference(repository, Host.parse(home.host), tag))
    assert isinstance(manifest, Manifest)
    layer: Descriptor = next(one for one in manifest.layers if "chart.content" in one.media_type)
    return layer.digest


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


ADDRESSES = {
    f"{ALB}:1.7.12/alb-controller-1.7.12.tgz": "alb-controller-1.7.12.tgz",
    f"{ALB}/alb-controller-1.7.12.tgz": "alb-controller-1.7.12.tgz",
    "application-lb/charts/alb-controller-1.7.12.tgz": "alb-controller-1.7.12.tgz",
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_direct_addresses_give_the_checked_bytes_and_a_quiet_stdout(ready: Home, path: str) -> None:
    done = ready.run("pull", f"mar://{ready.host}/{path}")
    assert done.stdout == ""
    assert sha256(ready.home / ADDRESSES[path]) == package_of(ready, ALB, "1.7.12").encoded
    assert ready.run("template", "r", f"mar://{ready.host}/{path}").stdout.startswith("---")


def test_a_range_and_a_v_in_front_work_without_adding_a_repository(ready: Home) -> None:
    ready.run("pull", "alb-controller", "--repo", f"mar://{ready.host}/application-lb/charts", "--version", "~1.7")
    assert (ready.home / "alb-controller-1.7.12.tgz").is_file()
    service = ("azure-service-operator", "--repo", f"mar://{ready.host}/k8s/azureserviceoperator/helmchart")
    for version in ("^2", "v2.9.0", "2.9.0"):
        (ready.home / f"by {version}").mkdir()
        ready.run("pull", *service, "--version", version, "-d", f"by {version}")
    assert {path.name for path in ready.home.glob("by */*")} >= {"azure-service-operator-v2.9.0.tgz"}


def test_provenance_is_asked_for_and_its_lack_is_no_failure(ready: Home) -> None:
    ready.run("repo", "add", "agic", f"mar://{ready.host}/azure-application-gateway/charts")
    ready.run("pull", "agic/ingress-azure", "--version", "1.9.1", "--prov")
    assert (ready.home / "ingress-azure-1.9.1.tgz.prov").is_file()
    ready.run("repo", "add", "alb", f"mar://{ready.host}/application-lb/charts")
    done = ready.run("pull", "alb/alb-controller", "--version", "1.7.12", "--prov")
    assert "Verification not found" in done.stdout + done.stderr
    assert (ready.home / "alb-controller-1.7.12.tgz").is_file()


def test_dependencies_are_updated_locked_and_built(ready: Home) -> None:
    parent = ready.home / "par"
    parent.mkdir()
    repository = f"mar://{ready.host}/application-lb/charts"
    lines = "".join(
        f"- {{name: alb-controller, version: '{version}', repository: '{repository}', alias: a{n}}}\n"
        for n, version in enumerate(("~1.7", "^1.10"))
    )
    (parent / "Chart.yaml").write_text(f"apiVersion: v2\nname: par\nversion: 0.1.0\ndependencies:\n{lines}")
    ready.asked.clear()
    done = ready.run("dependency", "update", "par")
    assert "Saving 2 charts" in done.stdout
    assert ready.asked["tags"] <= 3  # the namespace, tried as a repository, and the chart: one index for all that Helm asks
    charts = {path.name: sha256(path) for path in (parent / "charts").iterdir()}
    assert set(charts) == {"alb-controller-1.7.12.tgz", "alb-controller-1.11.4.tgz"}
    shutil.rmtree(parent / "charts")
    ready.run("repo", "add", "mar", repository)
    ready.run("dependency", "build", "par")
    assert {path.name: sha256(path) for path in (parent / "charts").iterdir()} == charts
    ready.run("package", "-u", "par")
    assert (ready.home / "par-0.1.0.tgz").is_file()


def test_a_second_template_of_the_same_version_asks_for_nothing(ready: Home) -> None:
    ready.run("repo", "add", "mar", f"mar://{ready.host}/application-lb/charts")
    ready.run("template", "r", "mar/alb-controller", "--version", "1.7.12")
    ready.asked.clear()
    ready.run("template", "r", "mar/alb-controller", "--version", "1.7.12")
    assert ready.asked == Counter()


def test_what_goes_wrong_leaves_no_file_and_says_the_address_first(ready: Home) -> None:
    url = f"mar://{ready.host}/{ALB}:9.9.9/alb-controller-9.9.9.tgz"
    done = ready.run("pull", url, code=1)
    assert done.stderr.startswith(f"marfetch: {url}: ")
    assert not list(ready.home.glob("*.tgz"))
    assert ready.layout is not None
    blob = ready.layout.path(package_of(ready, ALB, "1.7.12"))
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    blob.write_bytes(damaged)
    done = ready.run("pull", f"mar://{ready.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz", code=1)
    assert done.stderr.startswith("marfetch: mar://")
    assert not list(ready.home.glob("*.tgz"))


def test_an_update_and_an_uninstall_leave_a_working_helm(home: Home, repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "marfetch"
    shutil.copytree(repository, source)
    home.install(source)
    (source / "CHANGELOG.md").write_text("more\n")
    commit(source, "two")
    assert "Updated plugin: marfetch" in home.run("plugin", "update", "marfetch").stdout
    home.run("pull", f"mar://{home.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz")
    assert "Uninstalled plugin: marfetch" in home.run("plugin", "uninstall", "marfetch").stdout
    assert "marfetch" not in home.run("plugin", "list").stdout
    assert list(home.plugins.iterdir()) == []


def test_a_plugin_that_was_deleted_by_hand_breaks_nothing(ready: Home) -> None:
    shutil.rmtree(ready.plugins / "marfetch")
    ready.run("plugin", "list")
    done = ready.run("pull", f"mar://{ready.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz", code=1)
    assert "the plugin of this getter is missing; install it again" in done.stderr


def test_without_a_python_one_line_says_what_to_do(home: Home, repository: Path) -> None:
    empty = home.home / "bin"
    empty.mkdir()
    for directory in (Path("/bin"), Path("/usr/bin")):
        for program in directory.iterdir():
            if not program.name.startswith(("python", "pypy", "uv")) and not (empty / program.name).exists():
                (empty / program.name).symlink_to(program)
    verify = ["--verify=false"] if home.major == 4 else []
    done = home.run("plugin", "install", *verify, f"file://{repository}", PATH=str(empty), MARFETCH_PYTHON="")
    assert "marfetch needs Python 3.11" in done.stderr
    again = home.run("marfetch", "version", code=127, PATH=str(empty), MARFETCH_PYTHON="")
    assert again.returncode == 127
    assert "the plugin has no Python environment" in again.stderr
    home.run("plugin", "list")


def test_both_majors_share_one_home(tool: Tool, repository: Path, tmp_path: Path) -> None:
    first, second = tool("helm3"), tool("helm4")
    for number, (installs, uses) in enumerate([(first, second), (second, first)]):
        with user(installs, tmp_path / f"home{number}") as home:
            home.install(repository)
            assert home.run("marfetch", "version", helm=uses).stdout == f"marfetch {__version__}\n"
            assert "marfetch-getter" in home.run("plugin", "list", helm=uses).stdout
            home.run("pull", f"mar://{home.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz", helm=uses)
            assert (home.home / "alb-controller-1.7.12.tgz").is_file()


def test_setup_out_of_a_package_does_the_same_without_git(home: Home) -> None:
    line = [sys.executable, "-m", "marfetch", "setup"]
    environment = home.environment(HELM_BIN=str(home.helm), PYTHONPATH=str(ROOT))
    subprocess.run(line, env=environment, check=True, capture_output=True)
    assert home.run("marfetch", "version", PYTHONPATH=str(ROOT)).stdout == f"marfetch {__version__}\n"
    home.run("pull", f"mar://{home.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz", PYTHONPATH=str(ROOT))
    assert "Uninstalled plugin: marfetch" in home.run("plugin", "uninstall", "marfetch").stdout
    assert list(home.plugins.iterdir()) == []


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_versions_with_build_metadata_and_a_signed_chart_out_of_a_real_registry(
    tool: Tool, repository: Path, tmp_path: Path, helm: str
) -> None:
    program = tool(helm)
    with distribution(tool("registry"), tmp_path / "registry") as host:
        for version in ("1.2.3", "1.2.3+build.5", "2.0.0-rc.1"):
            run_tool(program, "push", package_chart(program, tmp_path, "toy", version), f"oci://{host}/aks", "--plain-http")
        home = Home(program, tmp_path / "user", host, "", Counter())
        home.home.mkdir()
        home.install(repository)
        home.run("repo", "add", "mar", f"mar://{host}/aks")
        found = [line.split()[:2] for line in home.run("search", "repo", "mar/", "--versions", "--devel").stdout.splitlines()[1:]]
        assert {version for _, version in found} >= {"2.0.0-rc.1", "1.2.3+build.5"}
        home.run("pull", "mar/toy", "--version", "1.2.3+build.5")
        assert sha256(home.home / "toy-1.2.3+build.5.tgz") == sha256(tmp_path / "toy-1.2.3+build.5.tgz")
        index = json.loads(
            subprocess.run(
                [sys.executable, "-m", "marfetch", "index", f"{host}/aks/toy"],
                env=home.environment(PYTHONPATH=str(ROOT)),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        assert index["entries"]["toy"][0]["version"] == "2.0.0-rc.1"


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_a_dependency_is_found_by_the_charts_own_name(tool: Tool, repository: Path, tmp_path: Path, helm: str) -> None:
    program = tool(helm)
    with distribution(tool("registry"), tmp_path / "registry") as host:
        run_tool(program, "push", package_chart(program, tmp_path, "toy", "1.2.3"), f"oci://{host}/aks", "--plain-http")
        run_tool(tool("crane"), "copy", "--insecure", f"{host}/aks/toy:1.2.3", f"{host}/other/renamed:1.2.3")
        home = Home(program, tmp_path / "user", host, "", Counter())
        (home.home / "par").mkdir(parents=True)
        home.install(repository)
        (home.home / "par" / "Chart.yaml").write_text(
            "apiVersion: v2\nname: par\nversion: 0.1.0\ndependencies:\n"
            f"- {{name: toy, version: ^1, repository: 'mar://{host}/other/renamed'}}\n"
        )
        home.run("dependency", "update", "par")
        assert [path.name for path in (home.home / "par" / "charts").iterdir()] == ["toy-1.2.3.tgz"]
        assert "# Source: par/charts/toy/templates/cm.yaml" in home.run("template", "x", "par").stdout
        home.run("repo", "add", "mar", f"mar://{host}/other")
        home.run("pull", "mar/renamed", "--untar")
        assert (home.home / "toy" / "Chart.yaml").is_file(), "Helm names the directory by Chart.yaml"


def test_helm_completes_our_commands_and_what_the_cache_knows(ready: Home) -> None:
    offered = ready.run("__complete", "marfetch", "").stdout.splitlines()
    assert {"pull", "versions", "index"} <= {line.split("\t")[0] for line in offered}
    endpoint = f"http://{ready.host}"
    ready.run("marfetch", "versions", ALB, MARFETCH_ENDPOINT=endpoint)
    assert ALB in ready.run("__complete", "marfetch", "pull", "application-lb/", MARFETCH_ENDPOINT=endpoint).stdout.split()


@pytest.fixture
def keys() -> Iterator[Path]:
    """A directory for keys whose path is short: the agent listens on a socket in it."""
    with tempfile.TemporaryDirectory(prefix="mf", dir="/tmp", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def test_a_signed_chart_is_verified_by_helm(ready: Home, tool: Tool, tmp_path: Path, keys: Path) -> None:
    gpg = [str(tool("gpg")), "--homedir", str(keys), "--batch", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "x@example.org", "rsa2048", "sign", "never"], check=True, capture_output=True)
    for option, name in (("--export-secret-keys", "secring.gpg"), ("--export", "pubring.gpg")):
        exported = subprocess.run([*gpg, option], check=True, capture_output=True).stdout
        (keys / name).write_bytes(exported)
    subprocess.run(["gpgconf", "--homedir", str(keys), "--kill", "all"], check=False, capture_output=True)
    package = package_chart(ready.helm, tmp_path, "signed", "1.0.0")
    source = tmp_path / "signed-source"
    run_tool(ready.helm, "package", source, "-d", tmp_path, "--sign", "--key", "x@example.org", "--keyring", keys / "secring.gpg")
    with distribution(tool("registry"), tmp_path / "distribution") as host:
        run_tool(ready.helm, "push", package, f"oci://{host}/aks", "--plain-http")
        ready.run("repo", "add", "mar", f"mar://{host}/aks")
        done = ready.run("pull", "mar/signed", "--version", "1.0.0", "--verify", "--keyring", keys / "pubring.gpg")
        assert f"Chart Hash Verified: sha256:{sha256(package)}" in done.stdout + done.stderr
        ready.run("template", "r", "mar/signed", "--verify", "--keyring", keys / "pubring.gpg")


def test_without_a_package_index_helm_still_works_and_one_line_says_what_to_do(home: Home, repository: Path) -> None:
    nothing = {"MARFETCH_PYTHON": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1", "UV_NO_INDEX": "1"}
    verify = ["--verify=false"] if home.major == 4 else []
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    line = ["plugin", "install", *verify, f"file://{repository}"]
    done = subprocess.run(
        [str(home.helm), *line], env=home.environment(PATH=path, **nothing), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot create the Python environment" in done.stderr
    home.run("plugin", "list")
    again = home.run("marfetch", "version", code=127, MARFETCH_PYTHON="")
    assert "the plugin has no Python environment" in again.stderr
    assert "Traceback" not in again.stderr
