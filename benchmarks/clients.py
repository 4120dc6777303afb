"""The clients to compare, marfetch included, each as a shell command.

In a command, `$T` is the client and `$H` the registry. The results mark a client that is not installed, or that cannot do the work.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.world import tools

from .measure import Contender, NotDoneError, absent
from .stage import ROOT, Stage

SIDE_BY_SIDE = 16
CHART = "bench/charts/chart{}"
LARGE = "bench/large"

_ORAS_PY = """
import sys, oras.client
client = oras.client.OrasClient(hostname=sys.argv[1], insecure=False)
for name in sys.argv[3:]:
    client.pull(target=f"{sys.argv[1]}/{name}", outdir=f"{sys.argv[2]}/{name.rpartition('/')[2]}")
"""


def marfetch(where: Stage, name: str, *arguments: str, files: int = 1) -> Contender:
    """Return marfetch with an empty cache."""
    environment = {**where.environment(), "PYTHONPATH": str(ROOT)}

    def prepare(directory: Path) -> list[str]:
        places = ["-d", str(directory / "out"), "--cache-dir", str(directory / "cache")]
        return [sys.executable, "-P", "-m", "marfetch", *arguments, *places, "--quiet"]

    return Contender(name, prepare, lambda directory: holds(directory / "out", files), environment)


def tool(where: Stage, name: str, program: str, script: str, *, files: int) -> Contender:
    """Return another client, which runs a shell script."""
    path = tools.find(program)
    if path is None:
        return absent(name, tools.missing(program))
    environment = {**where.environment(), "T": str(path), "H": where.host, "HELM_CACHE_HOME": str(where.directory / "helm")}
    return Contender(name, _shell(script), lambda directory: holds(directory / "out", files), environment)


def _shell(script: str) -> Callable[[Path], list[str]]:
    def prepare(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return ["sh", "-ec", script]

    return prepare


def oras_py(where: Stage, names: Sequence[str]) -> Contender:
    """Return the client of oras-py, unchanged: one artifact after the other, without digest checks."""
    environment = {**where.environment(), "REQUESTS_CA_BUNDLE": str(where.ca_file), "T": sys.executable, "H": where.host}
    script = f'exec "$T" -P -c {shlex.quote(_ORAS_PY)} "$H" out {" ".join(names)}'
    return Contender("oras-py", _shell(script), lambda directory: holds(directory / "out", len(names)), environment)


def holds(directory: Path, files: int) -> None:
    """Raise unless the directory has this many files."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    if len(found) < files:
        raise NotDoneError(f"{len(found)} files where there should be {files}")


def one_chart(where: Stage) -> list[Contender]:
    """Return all clients for one chart by exact version."""
    chart = CHART.format(0)
    return [
        tool(where, "helm 4", "helm4", f"$T pull oci://$H/{chart} --version 1.2.3 -d out", files=1),
        tool(where, "helm 3", "helm3", f"$T pull oci://$H/{chart} --version 1.2.3 -d out", files=1),
        tool(where, "oras cp", "oras", f"$T cp --from-plain-http=false $H/{chart}:1.2.3 --to-oci-layout out/layout:1.2.3", files=4),
        tool(where, "regctl", "regctl", f"$T artifact get $H/{chart}:1.2.3 > out/chart.tgz", files=1),
        tool(where, "crane", "crane", f"$T pull --format=oci $H/{chart}:1.2.3 out/layout", files=5),
        tool(where, "skopeo", "skopeo", f"$T copy -q --insecure-policy docker://$H/{chart}:1.2.3 oci:out/layout:1.2.3", files=5),
        _regsync(where, 1),
        oras_py(where, [f"{chart}:1.2.3"]),
        marfetch(where, "marfetch", "pull", chart, "--version", "1.2.3"),
    ]


def a_range(where: Stage) -> list[Contender]:
    """Return the clients for one chart by a range. Among other clients, only Helm supports ranges."""
    chart = CHART.format(0)
    return [
        tool(where, "helm 4", "helm4", f"$T pull oci://$H/{chart} --version ^1.2 -d out", files=1),
        tool(where, "helm 3", "helm3", f"$T pull oci://$H/{chart} --version ^1.2 -d out", files=1),
        *(absent(name, "does not support ranges") for name in ("oras", "regctl", "crane", "skopeo", "regsync", "oras-py")),
        marfetch(where, "marfetch", "pull", chart, "--version", "^1.2"),
    ]


def many(where: Stage, count: int) -> list[Contender]:
    """Return the clients for many charts by exact version. A client that takes one artifact per call runs sixteen times in parallel."""
    numbers = f"seq 0 {count - 1} | xargs -P {SIDE_BY_SIDE} -I N"
    chart = CHART.format("N")
    names = [f"{CHART.format(number)}:1.2.3" for number in range(count)]

    def each(name: str, program: str, words: str, files: int) -> Contender:
        return tool(where, name, program, f"{numbers} $T {words}", files=count * files)

    return [
        each("oras cp, 16 at once", "oras", f"cp --from-plain-http=false $H/{chart}:1.2.3 --to-oci-layout out/N:1.2.3", 4),
        each("helm 4, 16 at once", "helm4", f"pull oci://$H/{chart} --version 1.2.3 -d out", 1),
        each("regctl, 16 at once", "regctl", f"image copy $H/{chart}:1.2.3 ocidir://out/N", 5),
        each("crane, 16 at once", "crane", f"pull --format=oci $H/{chart}:1.2.3 out/N", 5),
        each("skopeo, 16 at once", "skopeo", f"copy -q --insecure-policy docker://$H/{chart}:1.2.3 oci:out/N:1.2.3", 5),
        _regsync(where, count),
        oras_py(where, names),
        marfetch(where, "marfetch", "pull", *names, files=count),
        marfetch(where, "marfetch --jobs 32", "pull", *names, "--jobs", "32", files=count),
    ]


def one_file(where: Stage, size: int) -> list[Contender]:
    """Return the clients for one file of this size in MiB. A client without a command for files writes a layout."""
    name = f"{LARGE}:{size}"
    return [
        tool(where, "oras pull", "oras", f"$T pull --plain-http=false $H/{name} -o out", files=1),
        absent("helm", "supports charts only"),
        tool(where, "regctl", "regctl", f"$T artifact get $H/{name} > out/file", files=1),
        tool(where, "crane", "crane", f"$T pull --format=oci $H/{name} out/layout", files=4),
        tool(where, "skopeo", "skopeo", f"$T copy -q --insecure-policy docker://$H/{name} oci:out/layout:1", files=4),
        oras_py(where, [name]),
        marfetch(where, "marfetch", "pull", name),
    ]


def _regsync(where: Stage, count: int) -> Contender:
    """Return regsync with one config file for all charts, sixteen in parallel."""
    lines = "".join(
        f'  - {{source: "{where.host}/{CHART.format(number)}:1.2.3", target: "ocidir://out/{number}:1.2.3", type: image}}\n'
        for number in range(count)
    )
    document = where.directory / f"regsync-{count}.yml"
    document.write_text(f"version: 1\ndefaults: {{parallel: {SIDE_BY_SIDE}}}\nsync:\n{lines}")
    return tool(where, "regsync", "regsync", f"exec $T once -v error -c {document}", files=count * 5)
