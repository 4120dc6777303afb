"""Find the images of a chart in the manifests that `helm template` renders."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ..budget import Budget
from ..chart.images import FoundImages, rendered_images
from ..errors import InputError, PolicyError

TIME: Final = 120.0
"""Maximum seconds for one chart."""
MAX_RENDERED: Final = 64 << 20
"""Maximum size in bytes of the manifests of one chart."""
_KEPT: Final = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
"""Environment variables that Helm gets. Without other variables, Helm finds no plugins, repositories, credentials or cluster."""


def helm_images(package: Iterable[bytes], name: str, values: Sequence[Path], budget: Budget) -> FoundImages:
    """Run `helm template` on a packed chart, and find the images in its manifests.

    Args:
        package: the bytes of the chart. Either the caller has verified them, or the iterator raises if they are wrong.
        name: the chart, for messages.
        values: files with values, as `helm template --values` takes them.

    Raises:
        InputError: `helm-failed`: Helm is not on PATH, or cannot render the chart.
        PolicyError: `limit-passed`: it takes too long, or renders too much.
    """
    helm = shutil.which("helm")
    if helm is None:
        raise InputError("`helm` is not on PATH", code="helm-failed", hint="install Helm, or leave out `--rendered`")
    with tempfile.TemporaryDirectory(prefix="marfetch-") as directory:
        chart, output = Path(directory, "chart.tgz"), Path(directory, "rendered.yaml")
        with chart.open("wb") as file:
            file.writelines(package)
        homes = {f"HELM_{one}_HOME": str(Path(directory, one.lower())) for one in ("CACHE", "CONFIG", "DATA")}
        environment = {
            **{key: os.environ[key] for key in _KEPT if key in os.environ},
            "HOME": directory,
            "KUBECONFIG": os.devnull,
            "HELM_PLUGINS": str(Path(directory, "plugins")),
            **homes,
        }
        given = [word for one in values for word in ("--values", str(one.absolute()))]
        line = [helm, "template", "release-name", str(chart), "--include-crds", *given]
        with output.open("wb") as file:
            try:
                done = subprocess.run(  # noqa: S603 - the user asked for the `helm` on PATH, and no shell is used
                    line,
                    env=environment,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.PIPE,
                    timeout=min(TIME, budget.remaining),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                rule = f"{TIME:g} seconds for one chart"
                raise PolicyError(f"`helm template` takes too long for `{name}`", code="limit-passed", rule=rule) from None
            except OSError as error:
                raise InputError(f"cannot run `{helm}`: {error.strerror}", code="helm-failed") from error
        if done.returncode != 0:
            told = " ".join(done.stderr.decode("utf-8", "replace").split())[-500:]
            raise InputError(f"`helm template` failed for `{name}`: {told}", code="helm-failed")
        if output.stat().st_size > MAX_RENDERED:
            raise PolicyError(
                f"`helm template` renders {output.stat().st_size} bytes for `{name}`", code="limit-passed", rule=f"{MAX_RENDERED} bytes"
            )
        text = output.read_bytes().decode("utf-8", "replace")
    return rendered_images(text)
