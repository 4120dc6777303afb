"""The real tools that tests and benchmarks use, built from the Go module proxy or taken from npm into `.tools/`, pinned by version and checksum.

`python tests/world/tools.py` builds missing tools. Tests that do not `find` a tool are skipped. With `CI=true`, they fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"


@dataclass(frozen=True)
class Tool:
    """A program and its source.

    Attributes:
        sum: the checksum of the module's source, as `go mod download` prints it.
        package: the program, relative to the module.
    """

    name: str
    module: str
    version: str
    sum: str
    package: str


ALL = (
    Tool("helm3", "helm.sh/helm/v3", "v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=", "./cmd/helm"),
    Tool("helm4", "helm.sh/helm/v4", "v4.3.1", "h1:UndCoLe9UPmNoL7IvWzaUXveL7T5t/ijoorEmgJdI9g=", "./cmd/helm"),
    Tool("oras", "oras.land/oras", "v1.3.6", "h1:Lhsfr2tQLjsu/+CJZp6vYatwKT+62fbIUTlp4lUrfOA=", "./cmd/oras"),
    Tool("crane", "github.com/google/go-containerregistry", "v0.22.1", "h1:RZuuSYhTvlDvtsK+NkutoCZ//C0X2ebLK8X8l3ULs84=", "./cmd/crane"),
    Tool("regctl", "github.com/regclient/regclient", "v0.11.7", "h1:Jsjlnd0ZQ2Blh0vaJtxJ0pU549VajvZ6BTL/4R7noMo=", "./cmd/regctl"),
    Tool("regsync", "github.com/regclient/regclient", "v0.11.7", "h1:Jsjlnd0ZQ2Blh0vaJtxJ0pU549VajvZ6BTL/4R7noMo=", "./cmd/regsync"),
    Tool(
        "registry",
        "github.com/distribution/distribution/v3",
        "v3.1.2",
        "h1:/Bv2YIqqSR00HiO49FT93hovy6r9IlrzwUDsJjCN5qg=",
        "./cmd/registry",
    ),
    Tool("notation", "github.com/notaryproject/notation", "v1.3.2", "h1:roSxDRZ+w8kIgxoxruhHpSVtVFwpfq2piuaMvOrPaco=", "./cmd/notation"),
    Tool(
        "conformance",
        "github.com/opencontainers/distribution-spec/conformance",
        "v0.0.0-20260831232431-97274622c111",
        "h1:ppZPU0CrEPzyJhVggYwUIZrqh0w2lIT0esw+9ABNPA4=",
        ".",
    ),
)
"""Tools that are built from sources of the Go module proxy."""

OWN = {"semver-oracle": ROOT / "tests/oracle", "delay": ROOT / "benchmarks/delay"}
"""Go programs of this project: one evaluates ranges with the library that Helm uses, and one forwards connections with a delay."""


NODE = {
    "axe-core": ("4.14.1", "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="),
    "pyright": ("1.1.414", "sha512-FPZZb51jepDX4eP7TEYDeNFtmE3WgwkkEcJpvH3/QmUSsj0EAy3LXu+xB4T/FWDejtsXlCfFr/rbWFjwuwuXww=="),
}
"""npm packages for Node.js: name → version and checksum."""

SCRIPTS = {"axe-core": "axe.min.js"}
"""npm packages that run in a web page: name → file in the package."""

SYSTEM = {
    "chromium": "chromium",
    "curl": "curl",
    "fish": "fish",
    "gpg": "gnupg",
    "skopeo": "skopeo",
    "strace": "strace",
    "wrk": "wrk",
    "zsh": "zsh",
}
"""Programs of the operating system: name → Debian package. `python tests/world/tools.py --system` prints the missing packages."""


def find(name: str) -> Path | None:
    """Return the path of a tool, or None if it is not built or installed."""
    if name in SYSTEM:
        there = shutil.which(name)
        return Path(there) if there is not None else None
    if name in SCRIPTS:
        script = TOOLS / f".{name}" / "node_modules" / name / SCRIPTS[name]
        return script if script.is_file() else None
    path = TOOLS / name
    return path if path.is_file() and os.access(path, os.X_OK) else None


def missing(name: str) -> str:
    """Return the reason for skipping a test, with the command that installs the tool."""
    if name in SYSTEM:
        return f"`{name}` is not here: apt-get install {SYSTEM[name]}"
    return f"the real tool `{name}` is not in .tools/: run `make tools`{' (needs Node.js with npm)' if name in NODE else ''}"


def _go(*arguments: str, directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(["go", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"go {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def _own_stamp(directory: Path) -> str:
    sources = sorted(path for path in directory.iterdir() if path.name in ("main.go", "go.mod", "go.sum"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _build_own(name: str, directory: Path, environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="marfetch-tools-") as scratch:
        for path in directory.iterdir():
            if path.name in ("main.go", "go.mod", "go.sum"):
                shutil.copy(path, scratch)
        _compile(name, Path(scratch), ".", environment)


def _compile(name: str, source: Path, package: str, environment: dict[str, str]) -> None:
    target = TOOLS / f".{name}.new"
    _go("build", "-trimpath", "-ldflags=-s -w", "-o", str(target), package, directory=source, environment=environment)
    target.replace(TOOLS / name)


def _build(tool: Tool, environment: dict[str, str]) -> None:
    """Build a tool in a temporary module, because `go install` does not support some module paths."""
    versioned = f"{tool.module}@{tool.version}"
    with tempfile.TemporaryDirectory(prefix="marfetch-tools-") as scratch:
        directory = Path(scratch)
        _go("mod", "init", "scratch", directory=directory, environment=environment)
        _go("mod", "edit", "-require", versioned, directory=directory, environment=environment)
        found = json.loads(_go("mod", "download", "-json", versioned, directory=directory, environment=environment))
        if found["Sum"] != tool.sum:
            sys.exit(f"the source of {versioned} has the checksum {found['Sum']}, not {tool.sum}")
        _compile(tool.name, Path(found["Dir"]), tool.package, environment)


def _install(name: str) -> None:
    """Install a program with npm, without running its install scripts."""
    version, checksum = NODE[name]
    place = TOOLS / f".{name}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    line = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", f"{name}@{version}"]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"npm install {name}@{version} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    packages = json.loads((place / "package-lock.json").read_text())["packages"]
    if (found := packages[f"node_modules/{name}"]["integrity"]) != checksum:
        sys.exit(f"{name}@{version} has the checksum {found}, not {checksum}")
    if name in SCRIPTS:
        return
    script = TOOLS / f".{name}.new"
    script.write_text(f'#!/bin/sh\nexec node "$(dirname "$0")/.{name}/node_modules/{name}/index.js" "$@"\n')
    script.chmod(0o755)
    script.replace(TOOLS / name)


def main() -> None:
    """Build the tools that are missing or have another version."""
    wanted = set(sys.argv[1:])
    if wanted == {"--system"}:
        print(*(package for name, package in SYSTEM.items() if shutil.which(name) is None))
        return
    TOOLS.mkdir(exist_ok=True)
    stamps = {tool.name: f"{tool.module}@{tool.version} {tool.sum}" for tool in ALL}
    stamps |= {name: _own_stamp(directory) for name, directory in OWN.items()}
    if shutil.which("npm") is not None:
        stamps |= {name: " ".join(pinned) for name, pinned in NODE.items()}
    else:
        print(f"no Node.js with npm here: {', '.join(NODE)} is left out, and its tests skip")
    todo = [name for name in stamps if not _is_current(name, stamps[name]) and (not wanted or name in wanted)]
    if set(todo) - set(NODE) and shutil.which("go") is None:
        sys.exit("`make tools` builds from source and needs Go 1.26 or newer (https://go.dev/dl); without the tools their tests skip")
    # Keep the sources below the checkout, and delete them after the build. Go's build cache is the user's.
    modules = TOOLS / ".modules"
    environment = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    by_name = {tool.name: tool for tool in ALL}
    for number, name in enumerate(todo, start=1):
        print(f"building {name} ({number} of {len(todo)})", flush=True)
        if name in NODE:
            _install(name)
        elif name in OWN:
            _build_own(name, OWN[name], environment)
        else:
            _build(by_name[name], environment)
        (TOOLS / f".{name}.built").write_text(stamps[name])
    shutil.rmtree(modules, ignore_errors=True)
    print("real tools in .tools/: " + ", ".join(name for name in stamps if find(name)))


def _is_current(name: str, stamp: str) -> bool:
    path = TOOLS / f".{name}.built"
    return find(name) is not None and path.is_file() and path.read_text() == stamp


if __name__ == "__main__":
    main()
