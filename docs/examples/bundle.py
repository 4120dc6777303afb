"""Lock charts, put them into one archive for an isolated network, and print what the archive contains.

Run: python bundle.py ARCHIVE REPOSITORY=RANGE...

Locks and bundles are commands, so the script runs them and reads their JSON.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def marfetch(*words: str, cwd: Path) -> dict[str, Any]:
    """Run a command and return its data; end the script with its exit code if it fails."""
    line = [sys.executable, "-m", "marfetch", *words, "--json", "--quiet"]
    done = subprocess.run(line, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    document = json.loads(done.stdout)
    if not document["ok"]:
        print(f"{document['error']['code']}: {document['error']['message']}", file=sys.stderr)
        sys.exit(done.returncode)
    data: dict[str, Any] = document["data"]
    return data


def main(archive: str, *wanted: str) -> int:
    artifacts = [dict(zip(("reference", "version"), one.split("=", 1), strict=False)) for one in wanted]
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory)
        (project / "marfetch.yaml").write_text(json.dumps({"schema": 1, "artifacts": artifacts}))  # JSON is YAML too
        marfetch("lock", cwd=project)
        path = str(Path(archive).resolve())
        marfetch("bundle", "create", "-o", path, cwd=project)
        for one in marfetch("bundle", "inspect", path, cwd=project)["artifacts"]:
            print(one["reference"])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
