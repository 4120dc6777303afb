"""Start marfetch from the plugin's folder on Windows, where Helm runs this file with `py -3`."""

import os
import subprocess
import sys
from pathlib import Path


def launch() -> int:
    """Run marfetch with the plugin's Python. This is not a batch file, because that would lose the `^` of `--version ^1`."""
    root = Path(__file__).resolve().parents[2]
    own = root / ".venv" / "Scripts" / "python.exe"
    named = os.environ.get("MARFETCH_PYTHON")
    whole = any((root / ".venv" / mark).exists() for mark in (".locked", ".runtime"))
    python = named or (str(own) if whole and own.exists() else None)
    if python is None:
        sys.stderr.write("marfetch: the plugin has no Python environment; run: pip install marfetch, then: marfetch setup\n")
        return 127
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
    try:
        return subprocess.call([python, "-P", "-m", "marfetch", *sys.argv[1:]], env=environment)  # noqa: S603 - `python` is set by the user or belongs to the plugin
    except OSError as error:
        sys.stderr.write(f"marfetch: cannot run `{python}`: {error.strerror}; correct or unset MARFETCH_PYTHON, or run: marfetch setup\n")
        return 127
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(launch())
