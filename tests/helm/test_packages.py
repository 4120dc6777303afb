"""marfetch reads the same files as the real Helm from charts that were packed on Windows, or whose top directory has another name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.chart.expected import ExpectedChart
from marfetch.errors import Error

from ..world.archives import directory, file, targz
from ..world.charts import add_chart
from ..world.command import Run, document
from ..world.registry import Registry
from ..world.unpacking import seen, unpack

CHART = b"apiVersion: v2\nname: web\nversion: 1.0.0\n"
MAP = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
TAKEN = {
    "windows": (file("web\\Chart.yaml", CHART), file("web\\templates\\a.yaml", MAP)),
    "windows, with directories": (
        *(directory("web\\"), directory("web\\templates\\")),
        *(file("web\\Chart.yaml", CHART), file("web\\templates\\a.yaml", MAP)),
    ),
    "another top directory": (file("foo/Chart.yaml", CHART), file("foo/templates/a.yaml", MAP)),
    "both": (file("foo\\Chart.yaml", CHART), file("foo\\templates\\a.yaml", MAP)),
    "mixed": (file("web/Chart.yaml", CHART), file("web\\templates/a.yaml", MAP)),
}
REFUSED = {
    # Helm accepts these packages, but marfetch refuses them.
    "read in another way": (file("web/Chart.yaml", CHART), file("web/templates\\a.yaml", MAP)),
    "twice": (file("web/Chart.yaml", CHART), file("web/templates/a.yaml", MAP), file("web\\templates\\a.yaml", b"kind: List\n")),
    "two tops": (file("web/Chart.yaml", CHART), file("foo\\templates\\a.yaml", MAP)),
    "up at the top": (file("..\\Chart.yaml", CHART), file("..\\templates\\a.yaml", MAP)),
    "absolute": (file("web\\Chart.yaml", CHART), file("\\web\\a.yaml", MAP)),
    "git": (file("web\\Chart.yaml", CHART), file("web\\.GIT\\config", MAP)),
    # Helm also refuses these packages.
    "up": (file("web\\Chart.yaml", CHART), file("web\\..\\..\\a.yaml", MAP)),
    "drive": (file("web\\Chart.yaml", CHART), file("web\\C:\\a.yaml", MAP)),
    "doubled": (file("web\\\\Chart.yaml", CHART), file("web\\\\templates\\\\a.yaml", MAP)),
}
WEB = ExpectedChart("web", "1.0.0")


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
@pytest.mark.parametrize("members", TAKEN.values(), ids=TAKEN)
def test_marfetch_takes_what_helm_takes(members: tuple[bytes, ...], helm: str, tool: Callable[[str], Path], tmp_path: Path) -> None:
    package = tmp_path / "web-1.0.0.tgz"
    package.write_bytes(targz(*members))
    shown = subprocess.run([tool(helm), "template", "x", package], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "# Source: web/templates/a.yaml" in shown
    assert set(seen(unpack(tmp_path / "out", package.read_bytes(), WEB))) == {"Chart.yaml", "templates", "templates/a.yaml"}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_paths_out_of_the_directory_and_ambiguous_paths_are_refused(members: tuple[bytes, ...], tmp_path: Path) -> None:
    with pytest.raises(Error) as caught:
        unpack(tmp_path / "out", targz(*members), WEB)
    assert caught.value.exit_code == 4
    assert seen(tmp_path / "out") == {}


@pytest.mark.parametrize("name", TAKEN)
def test_every_command_reads_such_charts(name: str, mar: Registry, run: Run, tmp_path: Path) -> None:
    image = file("foo\\values.yaml" if name == "both" else "web\\values.yaml", b"image: r.example/x:1\n")
    for version in ("1.0.0", "1.1.0"):
        members = [*TAKEN[name], *([image] if "top" not in name else [file("foo/values.yaml", b"image: r.example/x:1\n")])]
        package = targz(*(one.replace(b"1.0.0", version.encode()) for one in members))
        config = json.dumps({"name": "web", "version": version}).encode()
        add_chart(mar, "c/web", version, package, config=config)
    (tmp_path / "here" / "marfetch.yaml").write_text("schema: 1\nartifacts:\n- {reference: c/web, version: 1.0.0, untar: true}\n")
    assert document(run("inspect", "c/web:1.0.0", "--json"))["data"]["chart"]["name"] == "web"
    assert run("diff", "c/web:1.0.0", "c/web:1.1.0").returncode == 1
    for words in (("lock",), ("sync",), ("bundle", "create", "-o", "b.tar")):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "web" / "templates" / "a.yaml").read_bytes() == MAP
    (item,) = document(run("bundle", "inspect", "b.tar", "--json"))["data"]["artifacts"]
    assert (item["images"], item["unread"]) == (["r.example/x:1"], [])
    # There is no record of the directory. It is replaced only because all its files belong to the older package.
    (tmp_path / "here" / "marfetch.yaml").write_text("schema: 1\nartifacts:\n- {reference: c/web, version: 1.1.0, untar: true}\n")
    assert run("lock").returncode == 0
    done = run("sync", "--json", environment={"XDG_STATE_HOME": str(tmp_path / "other-state")})
    assert document(done)["data"]["artifacts"][0]["outcome"] == "replaced", done.stderr
