"""The real tools that tests and benchmarks use, built from the Go module proxy into `.tools/`, pinned by version and checksum.

`python tests/tools.py` builds what is missing; tests ask `find` and skip, visibly, where a tool is not there. With `CI=true` a
missing tool is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"


@dataclass(frozen=True)
class Tool:
    """A program and where its source is.

    Attributes:
        sum: the checksum of the module's source, as `go mod download` tells it.
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
"""`semver-oracle` comes beside them: this project's own question to Masterminds/semver (tests/oracle)."""

ORACLE = Tool("semver-oracle", "github.com/Masterminds/semver/v3", "v3.5.0", "", "")


def find(name: str) -> Path | None:
    """The path of a tool, or None where it has not been built."""
    path = TOOLS / name
    return path if path.is_file() and os.access(path, os.X_OK) else None


def missing(name: str) -> str:
    """Why a test is skipped, with the command that gets the tool."""
    return f"the real tool `{name}` is not in .tools/: run `make tools`"


def _go(*arguments: str, directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(["go", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"go {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def _stamp(tool: Tool) -> str:
    source = (ROOT / "tests/oracle/main.go").read_text() if tool is ORACLE else ""
    return f"{tool.module}@{tool.version} {tool.sum} {hash_of(source)}".strip()


def hash_of(text: str) -> str:
    """A short name for a source file's content."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _build(tool: Tool, environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="marfetch-tools-") as scratch:
        directory = Path(scratch)
        if tool is ORACLE:
            for name in ("main.go", "go.mod", "go.sum"):
                shutil.copy(ROOT / "tests/oracle" / name, directory / name)
            source, package = directory, "."
        else:
            # By way of a scratch module: some module paths cannot be asked for by `go install`.
            _go("mod", "init", "scratch", directory=directory, environment=environment)
            _go("mod", "edit", "-require", f"{tool.module}@{tool.version}", directory=directory, environment=environment)
            found = json.loads(
                _go("mod", "download", "-json", f"{tool.module}@{tool.version}", directory=directory, environment=environment)
            )
            if found["Sum"] != tool.sum:
                sys.exit(f"the source of {tool.module}@{tool.version} has the checksum {found['Sum']}, not {tool.sum}")
            source, package = Path(found["Dir"]), tool.package
        target = TOOLS / f".{tool.name}.new"
        _go("build", "-trimpath", "-ldflags=-s -w", "-o", str(target), package, directory=source, environment=environment)
        target.replace(TOOLS / tool.name)
    (TOOLS / f".{tool.name}.built").write_text(_stamp(tool))


def main() -> None:
    """Build what is missing or of another version."""
    wanted = set(sys.argv[1:])
    TOOLS.mkdir(exist_ok=True)
    todo = []
    for tool in (*ALL, ORACLE):
        stamp = TOOLS / f".{tool.name}.built"
        if find(tool.name) and stamp.is_file() and stamp.read_text() == _stamp(tool):
            continue
        if not wanted or tool.name in wanted:
            todo.append(tool)
    if todo and shutil.which("go") is None:
        sys.exit("`make tools` builds from source and needs Go 1.26 or newer (https://go.dev/dl); without the tools their tests skip")
    # The sources stay below the checkout and go when everything is built; Go's build cache is the user's.
    modules = TOOLS / ".modules"
    environment = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    for number, tool in enumerate(todo, start=1):
        print(f"building {tool.name} {tool.version} ({number} of {len(todo)})", flush=True)
        _build(tool, environment)
    shutil.rmtree(modules, ignore_errors=True)
    print("real tools in .tools/: " + ", ".join(tool.name for tool in (*ALL, ORACLE) if find(tool.name)))


if __name__ == "__main__":
    main()
