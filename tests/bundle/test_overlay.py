"""`marfetch bundle overlay`: values that point charts at another registry, proven with the real Helm."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.chart.images import find_images
from marfetch.chart.manifests import images_in
from marfetch.chart.relocation import relocate, yaml_of

from ..world.archives import file, targz
from ..world.command import Call
from ..world.images import WEB, add_multi, add_naming_chart
from ..world.registry import Registry
from .relocations import CASES, Case

REGISTRY = "new.example:5000/mar"


def packed(files: dict[str, str]) -> bytes:
    return targz(*(file(f"foo/{path}", text.encode()) for path, text in files.items()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_image_that_values_name_lies_in_the_new_registry(case: Case) -> None:
    files = {path: text.encode() for path, text in case.files.items()}
    found = relocate(files, case.targets(REGISTRY), REGISTRY)
    after = find_images(files, values=[found.values]).images
    assert set(after) == {case.moved.get(image, image).replace("NEW", REGISTRY) for image in find_images(files).images}
    assert {one.image for one in found.left} == set(case.left)


@pytest.mark.tool
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_agrees(tool: Callable[[str], Path], helm: str, tmp_path: Path) -> None:
    for case in CASES:
        files = {path: text.encode() for path, text in case.files.items()}
        (tmp_path / "chart.tgz").write_bytes(packed(case.files))
        (tmp_path / "values.yaml").write_text(yaml_of(relocate(files, case.targets(REGISTRY), REGISTRY).values))
        line = [str(tool(helm)), "template", "x", str(tmp_path / "chart.tgz"), "--values", str(tmp_path / "values.yaml")]
        done = subprocess.run(line, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)})
        before = find_images(files).images
        assert {one.image for one in images_in(done.stdout)} == {
            case.moved.get(image, image).replace("NEW", REGISTRY) for image in before
        }, case.name


@pytest.fixture
def bundle(mar: Registry, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle with a chart and, for one platform, the image that it names by the digest of an index."""
    monkeypatch.chdir(tmp_path)
    index, children = add_multi(mar)
    pinned = f"{mar.host}/{WEB}:2.1@{index.digest}"
    add_naming_chart(mar, pinned, f"{mar.host}/{WEB}:2.1", "nginx:1.2")
    Path("marfetch.yaml").write_text("schema: 1\nartifacts:\n- {reference: 'charts/foo:1.0.0', images: true, platforms: [linux/arm64]}\n")
    assert call("lock")[0] == 0
    assert call("bundle", "create", "-o", "b.tar")[0] == 0
    return str(children[1].digest)


def test_a_values_file_per_chart(bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from marfetch.__main__ import main

    capfd.readouterr()
    assert main(["bundle", "overlay", "b.tar", "--registry", REGISTRY]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^# values of .*charts/foo:1\.0\.0 for new\.example:5000/mar$", out, re.MULTILINE)
    assert "# not set: nginx:1.2 (values.yaml:part2.image): it is not in the bundle\n" in out
    assert f"part0:\n  image: {REGISTRY}/{WEB}:2.1@{bundle}\npart1:\n  image: {REGISTRY}/{WEB}:2.1\n" in out
    assert main(["bundle", "overlay", "b.tar", "--registry", REGISTRY, "--strict", "--json"]) == 1
    data = json.loads(capfd.readouterr().out)["data"]
    assert [(one["name"], one["values"]["part1"]["image"]) for one in data["charts"]] == [("foo", f"{REGISTRY}/{WEB}:2.1")]
    assert data["charts"][0]["left"][0] == {"image": "nginx:1.2", "where": "values.yaml:part2.image", "reason": "it is not in the bundle"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--registry", "./dir"], 2),
        (["--registry", REGISTRY, "--chart", "bar"], 2),
        (["--registry", "mcr.microsoft.com/x"], 4),
        (["--registry", "https://new.example"], 2),
    ],
)
def test_invalid_arguments_of_overlay_are_refused(bundle: str, arguments: list[str], code: int) -> None:
    from marfetch.__main__ import main

    assert main(["bundle", "overlay", "b.tar", *arguments]) == code
