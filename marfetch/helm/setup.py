"""Puts marfetch into Helm's plugin folder: `helm marfetch` and the getter for `mar://`, two plugins since Helm 4 gives a plugin one type.

Only legacy plugin files are written: one of the newer form breaks every plugin of those who use Helm 3. Each folder is made aside and
renamed, so that Helm never sees half of one.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import __version__
from ..errors import StorageError
from ..files import storage_error

PLUGIN: Final = "marfetch"
GETTER: Final = "marfetch-getter"
_HERE: Final = Path(__file__).parent
_STARTED = re.compile(r"^exec '([^']+)' -m marfetch", re.MULTILINE)
_NAME = re.compile(r"^name:\s*[\"']?([A-Za-z0-9_-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Placed:
    """A plugin that is in its place now; `changed` tells whether it was written."""

    name: str
    path: Path
    changed: bool


def plugins_directory(environment: Mapping[str, str] = os.environ, *, patience: float = 20) -> Path:
    """Where Helm looks for plugins: as `helm env HELM_PLUGINS` says it, and by Helm's own rules where there is no Helm.

    Of several directories, the first.

    Args:
        patience: seconds that Helm gets to say it.
    """
    named = environment.get("HELM_PLUGINS")
    if not named:
        with suppress(OSError, subprocess.SubprocessError):
            line = [environment.get("HELM_BIN") or "helm", "env", "HELM_PLUGINS"]
            named = subprocess.run(line, capture_output=True, text=True, check=True, timeout=patience).stdout.strip()  # noqa: S603
    if named:
        return Path(named.split(os.pathsep)[0])
    data = environment.get("HELM_DATA_HOME")
    if data:
        return Path(data) / "plugins"
    if os.name == "nt":
        return Path(environment.get("APPDATA", str(Path.home()))) / "helm" / "plugins"
    shared = environment.get("XDG_DATA_HOME")
    if shared:
        return Path(shared) / "helm" / "plugins"
    return Path.home() / ("Library" if sys.platform == "darwin" else ".local/share") / "helm" / "plugins"


def starts(plugins: Path) -> dict[str, str | None]:
    """Which of our plugins are in a folder, and which program each starts; None where it is one of its own folder."""
    found: dict[str, str | None] = {}
    for file in sorted(plugins.glob("*/plugin.yaml")):
        with suppress(OSError, UnicodeDecodeError):
            name = _NAME.search(file.read_text(encoding="utf-8")[:65_536])
            if name is None or name[1] not in (PLUGIN, GETTER):
                continue
            found[name[1]] = None
            starter = file.parent / ("marfetch" if name[1] == PLUGIN else "mar-get")
            if starter.is_file():
                program = _STARTED.search(starter.read_text(encoding="utf-8")[:65_536])
                found[name[1]] = program[1] if program else None
    return found


def set_up(plugins: Path) -> list[Placed]:
    """Put both plugins into a folder, started by the Python that runs now.

    Raises:
        StorageError: it cannot be written, or another plugin has one of the names.
    """
    _refuse_others(plugins, {PLUGIN: plugins / PLUGIN, GETTER: plugins / GETTER})
    return [_place(plugins / PLUGIN, _command_files()), _place(plugins / GETTER, _getter_files())]


def set_up_getter(plugin: Path) -> list[Placed]:
    """Put the getter beside a plugin that Helm has installed itself.

    Args:
        plugin: its folder as Helm names it; what it is called there depends on where it came from.

    Raises:
        StorageError: as `set_up`.
    """
    plugins = plugin.parent
    _refuse_others(plugins, {PLUGIN: plugin, GETTER: plugins / GETTER})
    return [_place(plugins / GETTER, _getter_files(beside=plugin.name))]


def _refuse_others(plugins: Path, own: Mapping[str, Path]) -> None:
    """Two folders with one name make all plugins of a user fail."""
    for file in sorted(plugins.glob("*/plugin.yaml")):
        with suppress(OSError, UnicodeDecodeError):
            found = _NAME.search(file.read_text(encoding="utf-8")[:65_536])
            if found and found[1] in own and file.parent != own[found[1]]:
                raise StorageError(
                    f"another plugin is called `{found[1]}` already: `{file.parent}`",
                    code="file-differs",
                    hint=f"remove it first: helm plugin uninstall {found[1]}, or delete `{file.parent}`",
                    path=str(file.parent),
                )
    for name, path in own.items():
        if name == GETTER and path.exists() and not path.is_symlink() and not _is_ours(path, name):
            raise StorageError(f"something else is at `{path}`", code="file-differs", hint="move it away, and run it again", path=str(path))


def _is_ours(path: Path, name: str) -> bool:
    try:
        found = _NAME.search((path / "plugin.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return path.is_dir() and not any(path.iterdir())
    return found is not None and found[1] == name


def _place(path: Path, files: Mapping[str, str]) -> Placed:
    """Make a folder hold exactly these files."""
    try:
        if path.is_dir() and not path.is_symlink() and _holds(path, files):
            return Placed(path.name, path, changed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".marfetch-", dir=path.parent))
        try:
            aside.chmod(0o755)
            for name, text in files.items():
                (aside / name).write_text(text, encoding="utf-8", newline="")
                (aside / name).chmod(0o644 if name.endswith(".yaml") else 0o755)
            if path.is_symlink():
                path.unlink()
            elif path.exists():
                before = Path(tempfile.mkdtemp(prefix=".marfetch-", dir=path.parent))
                path.rename(before / path.name)
                shutil.rmtree(before, ignore_errors=True)
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise storage_error(error, path) from error
    return Placed(path.name, path, changed=True)


def _holds(path: Path, files: Mapping[str, str]) -> bool:
    if {one.name for one in path.iterdir()} != set(files):
        return False
    return all(
        (path / name).read_bytes() == text.encode() and bool(stat.S_IXUSR & (path / name).stat().st_mode) == (not name.endswith(".yaml"))
        for name, text in files.items()
    )


def _getter_files(*, beside: str | None = None) -> dict[str, str]:
    """The getter's folder; `beside` names that of the plugin whose launcher it starts."""
    start = _quoted(sys.executable) + " -m marfetch" if beside is None else f'"$here"/../{_quoted(beside)}/marfetch/helm/launch'
    return {
        "plugin.yaml": (_HERE / "getter.plugin").read_text(encoding="utf-8"),
        "mar-get": f'#!/bin/sh\n# Helm calls this for mar:// addresses.\nhere=$(dirname -- "$0")\nexec {start} getter "$@"\n',
        "mar-get.cmd": f'@echo off\r\n"{sys.executable}" -m marfetch getter %*\r\n',
    }


def _command_files() -> dict[str, str]:
    """The folder of `helm marfetch` for a marfetch that pip has installed."""
    systems = "\n".join(f"  - os: {system}\n    command: '$HELM_PLUGIN_DIR/marfetch'" for system in ("linux", "darwin"))
    plugin = (
        f'name: {PLUGIN}\nversion: {__version__}\nusage: "fetch Helm charts and other artifacts from the Microsoft Artifact Registry"\n'
        f'description: "Fetches artifacts of the Microsoft Artifact Registry, every byte checked."\n'
        f"platformCommand:\n{systems}\n  - os: windows\n    command: 'py -3 $HELM_PLUGIN_DIR/marfetch.py'\n"
        'hooks:\n  delete: \'d=$(dirname "$HELM_PLUGIN_DIR")/marfetch-getter;'
        ' if grep -qs "^name: marfetch-getter$" "$d/plugin.yaml"; then rm -rf "$d"; fi\'\n'
    )
    return {
        "plugin.yaml": plugin,
        "marfetch": f'#!/bin/sh\nexec {_quoted(sys.executable)} -m marfetch "$@"\n',
        "marfetch.py": f'import subprocess as s\nimport sys\n\nsys.exit(s.call([{sys.executable!r}, "-m", "marfetch", *sys.argv[1:]]))\n',
        "plugin.complete": f'#!/bin/sh\nexec {_quoted(sys.executable)} -m marfetch __complete "$@"\n',
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
