"""`python -m benchmarks.images DIR`: compare the images that marfetch finds with those that `helm template` renders.

DIR contains charts: directories with a `Chart.yaml`, or packages (`*.tgz`). A chart that `helm template` cannot render with its default
values, such as one with a required value or without its dependencies, is left out and counted. CRDs and annotations are left out too,
because `helm template` does not show them. The figures are in `docs/decisions/0029-templates.md`.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from marfetch.chart.images import find_images, rendered_images
from marfetch.chart.rendering import KUBERNETES
from marfetch.destination.package import ChartFiles, chart_files, with_subcharts
from marfetch.oci import Descriptor, Digest

HELM_TIME = 120
"""Seconds for `helm template` and one chart."""


def read(path: Path) -> ChartFiles:
    """Return the files of a chart in a directory or package."""
    if path.is_dir():
        return with_subcharts({str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()})
    raw = path.read_bytes()
    return chart_files(io.BytesIO(raw), Descriptor("application/gzip", Digest.of(raw), len(raw)), path.name)


def rendered(helm: str, path: Path) -> set[str] | None:
    """Return the images that Helm renders, or None if it cannot render the chart."""
    with tempfile.TemporaryDirectory() as home:
        line = [helm, "template", "release-name", str(path), "--kube-version", KUBERNETES]
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=HELM_TIME, env={"HOME": home, "PATH": os.environ["PATH"]}
        )
    return set(rendered_images(done.stdout).images) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--helm", default=shutil.which("helm") or "helm")
    parser.add_argument("--verbose", action="store_true", help="name each chart that differs")
    options = parser.parse_args()
    charts = sorted(one for one in options.directory.iterdir() if one.suffix == ".tgz" or (one / "Chart.yaml").is_file())
    right = found = wanted = exact = compared = left = guessed = 0
    seconds: list[float] = []
    for path in charts:
        truth = rendered(options.helm, path)
        if truth is None:
            left += 1
            continue
        files = read(path)
        start = time.process_time()
        result = find_images(files.texts, files.reasons)
        seconds.append(time.process_time() - start)
        images = {one.image for one in result.named if one.source in ("values", "template")}
        compared, exact, guessed = compared + 1, exact + (images == truth), guessed + bool(result.guessed)
        right, found, wanted = right + len(images & truth), found + len(images), wanted + len(truth)
        if options.verbose and images != truth:
            print(f"{path.name}: missing {sorted(truth - images)}, not rendered {sorted(images - truth)}")
    print(f"charts: {compared} compared, {exact} exactly equal, {guessed} with a template that is not evaluated, {left} left out")
    print(f"images: {wanted} rendered, {found} found, precision {right / max(found, 1):.1%}, recall {right / max(wanted, 1):.1%}")
    print(f"seconds of CPU per chart: {sorted(seconds)[len(seconds) // 2]:.2f} in the median, {max(seconds):.2f} at most")


if __name__ == "__main__":
    main()
