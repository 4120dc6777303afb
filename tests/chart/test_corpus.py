"""The search for images finds what the real `helm template` renders, on charts that follow real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.chart.images import find_images
from marfetch.chart.manifests import images_in

from .corpus import Example, examples

EXAMPLES = examples()


def test_the_corpus_has_enough_charts() -> None:
    assert len(EXAMPLES) >= 40
    assert sum(len(one.images) for one in EXAMPLES) >= 70


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_images_are_those_that_helm_renders(example: Example) -> None:
    found = find_images(example.files)
    assert (found.images, dict(found.unread), dict(found.guessed)) == (tuple(sorted(example.images)), {}, {})


@pytest.mark.tool
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_renders_the_expected_images(tool: Callable[[str], Path], helm: str, tmp_path: Path) -> None:
    rendered = {}
    for example in EXAMPLES:
        (tmp_path / "chart.tgz").write_bytes(example.package())
        line = [str(tool(helm)), "template", "x", str(tmp_path / "chart.tgz")]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)})
        assert done.returncode == 0, f"{example.name}: {done.stderr}"
        rendered[example.name] = tuple(sorted({one.image for one in images_in(done.stdout)}))
    assert rendered == {example.name: tuple(sorted(example.images)) for example in EXAMPLES}
