"""Install two Helm plugins: the command `helm marfetch`, and the getter for `mar://`. There are two because a Helm 4 plugin has one type.

The plugin files use the legacy format, because a single file in the newer format breaks all plugins in Helm 3. Each plugin is first written
to a temporary folder, one level deeper than Helm searches, and then renamed. Therefore Helm never sees a partial plugin, or two plugins
with the same name, even if the process is killed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import __version__
from ..document import parse_yaml
from ..errors import Error, StorageError
from ..files import find_program, home, storage_error

PLUGIN: Final = "marfetch"
GETTER: Final = "marfetch-getter"
_HERE: Final = Path(__file__).parent
_LAUNCHER: Final = Path("marfetch", "helm", "launch")
"""The path of the launcher in a plugin that Helm itself installed from the repository (`helm plugin install`)."""
_WRITTEN: Final = {"plugin.yaml", "plugin.complete", "marfetch", "marfetch.py"}
"""The names of the files that marfetch itself writes to the folder of the `helm marfetch` plugin."""
_ASIDE: Final = ".marfetch-"
_LEFT_OVER: Final = 600.0
"""The age in seconds after which a temporary folder is considered to be left over from a killed process."""
_STARTED = re.compile(r"^exec '([^']+)' -P -m marfetch", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """An installed plugin. `changed` is False if the plugin was already up to date."""

    name: str
    path: Path
    changed: bool


def plugins_directory(environment: Mapping[str, str] = os.environ, *, patience: float = 20) -> Path:
    """Return Helm's plugin directory. If there are several, return the first.

    The directory is `HELM_PLUGINS` from the environment or from `helm env`. If Helm is not installed, it follows from Helm's rules.

    Args:
        patience: the timeout in seconds for running Helm.
    """
    named = environment.get("HELM_PLUGINS")
    if not named:
        program = environment.get("HELM_BIN") or find_program("helm", environment)
        if program:
            with suppress(OSError, subprocess.SubprocessError):
                line = [program, "env", "HELM_PLUGINS"]
                named = subprocess.run(line, capture_output=True, text=True, check=True, timeout=patience).stdout.strip()  # noqa: S603
    if named:
        return Path(named.split(os.pathsep)[0])
    data = environment.get("HELM_DATA_HOME")
    if data:
        return Path(data) / "plugins"
    if os.name == "nt":
        return Path(environment.get("APPDATA", str(home()))) / "helm" / "plugins"
    shared = environment.get("XDG_DATA_HOME")
    if shared:
        return Path(shared) / "helm" / "plugins"
    return home() / ("Library" if sys.platform == "darwin" else ".local/share") / "helm" / "plugins"


def starts(plugins: Path) -> dict[str, str | None]:
    """Return the names of marfetch's plugins in a folder, each with the path of the Python that it runs.

    The path is None if the plugin runs a program in its own folder.
    """
    found: dict[str, str | None] = {}
    for file in sorted(plugins.glob("*/plugin.yaml")):
        name = _name(file)
        if name not in (PLUGIN, GETTER):
            continue
        found[name] = None
        with suppress(OSError, UnicodeDecodeError):
            starter = file.parent / ("marfetch" if name == PLUGIN else "mar-get")
            program = _STARTED.search(starter.read_text(encoding="utf-8")[:65_536]) if starter.is_file() else None
            found[name] = program[1] if program else None
    return found


def set_up(plugins: Path) -> list[InstalledPlugin]:
    """Install both plugins for the current Python. If Helm itself installed `helm marfetch`, keep it and install only the getter.

    Raises:
        StorageError: the folder cannot be written, or another plugin or file has the same name.
    """
    main, getter = plugins / PLUGIN, plugins / GETTER
    if (main / _LAUNCHER).exists():
        return [InstalledPlugin(PLUGIN, main, changed=False), *set_up_getter(main)]
    _refuse_others(plugins, {PLUGIN: main, GETTER: getter})
    _refuse_foreign({PLUGIN: main, GETTER: getter})
    wanted = [(main, _command_files()), (getter, _getter_files())]
    return [_place(path, files) for path, files in wanted]


def set_up_getter(plugin: Path) -> list[InstalledPlugin]:
    """Install the getter next to a `helm marfetch` plugin that Helm itself installed.

    Args:
        plugin: the folder of the plugin. Its name depends on where Helm installed the plugin from.

    Raises:
        StorageError: the folder is not this plugin; or the same errors as `set_up`.
    """
    if not (plugin / _LAUNCHER).exists():
        raise StorageError(
            f"`{plugin}` is not the marfetch plugin: it has no `{_LAUNCHER.as_posix()}`",
            code="file-unusable",
            hint="delete it and install the plugin again with `helm plugin install`",
            path=str(plugin),
        )
    getter = plugin.parent / GETTER
    _refuse_others(plugin.parent, {PLUGIN: plugin, GETTER: getter})
    _refuse_foreign({GETTER: getter})
    return [_place(getter, _getter_files(beside=plugin.name))]


def _refuse_others(plugins: Path, own: Mapping[str, Path]) -> None:
    """Raise if another folder has a plugin with the same name. With two such plugins, Helm fails for all plugins."""
    for file in sorted(plugins.glob("*/plugin.yaml")):
        found = _name(file)
        if found is not None and found in own and file.parent != own[found]:
            raise StorageError(
                f"another plugin is already called `{found}`: `{file.parent}`",
                code="file-differs",
                hint=f"delete the one that you do not want: `{file.parent}` or `{own[found]}`; Helm cannot do it while both exist",
                path=str(file.parent),
            )


def _refuse_foreign(own: Mapping[str, Path]) -> None:
    """Raise if a path to replace exists and is neither a plugin of marfetch nor a dangling symbolic link."""
    for name, path in own.items():
        if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
            continue
        if not _is_ours(path, name):
            raise StorageError(
                f"`{path}` exists and is not a plugin of marfetch",
                code="file-differs",
                hint="move it, and run the command again",
                path=str(path),
            )


def _is_ours(path: Path, name: str) -> bool:
    if not path.is_dir():
        return False
    held = {one.name for one in path.iterdir()}
    # Only marfetch uses the name of the getter. A `marfetch` folder, however, may contain files of the user.
    return not held or (_name(path / "plugin.yaml") == name and (name == GETTER or held <= _WRITTEN))


def _name(file: Path) -> str | None:
    """Return the plugin's name from its `plugin.yaml`, or None if the file cannot be read."""
    with suppress(OSError, Error):
        document = parse_yaml(file.read_bytes(), f"`{file}`")
        if isinstance(document, dict) and isinstance(document.get("name"), str):
            return str(document["name"])
    return None


def _place(path: Path, files: Mapping[str, bytes]) -> InstalledPlugin:
    """Replace a folder with a new one that contains exactly these files. Do nothing if it already does."""
    try:
        if _holds(path, files):
            return InstalledPlugin(path.name, path, changed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        # Helm searches `*/plugin.yaml`, even in hidden folders, so the temporary folder is one level deeper.
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=path.parent))
        try:
            new, old = aside / "new", aside / "old"
            new.mkdir(mode=0o755)
            for name, content in files.items():
                (new / name).write_bytes(content)
                (new / name).chmod(0o644 if name.endswith(".yaml") else 0o755)
            with suppress(FileNotFoundError):
                path.rename(old)
            try:
                new.rename(path)
            except OSError:
                if _holds(path, files):  # another process has installed it
                    return InstalledPlugin(path.name, path, changed=False)
                if os.path.lexists(old) and not os.path.lexists(path):
                    old.rename(path)
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return InstalledPlugin(path.name, path, changed=True)


def _clear(plugins: Path) -> None:
    """Delete temporary folders that are left over from killed processes."""
    for left in plugins.glob(f"{_ASIDE}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_OVER:
                shutil.rmtree(left, ignore_errors=True)


def _holds(path: Path, files: Mapping[str, bytes]) -> bool:
    if path.is_symlink() or not path.is_dir() or {one.name for one in path.iterdir()} != set(files):
        return False
    return all(
        (path / name).read_bytes() == content and bool(stat.S_IXUSR & (path / name).stat().st_mode) == (not name.endswith(".yaml"))
        for name, content in files.items()
    )


def _getter_files(*, beside: str | None = None) -> dict[str, bytes]:
    """Return the names and contents of the getter's files.

    Args:
        beside: the name of the folder of the plugin whose launcher the getter runs; None to run the current Python.
    """
    plugin = (_HERE / "getter.plugin").read_bytes()
    if os.name == "nt":
        return {"plugin.yaml": plugin, "mar-get.exe": _getter_program()}
    if beside is None:
        start = f'exec {_started()} getter "$@"\n'
    else:
        start = (
            f'launch="$here"/../{_quoted(beside)}/{_LAUNCHER.as_posix()}\n'
            'if [ ! -x "$launch" ]; then\n'
            '\techo "marfetch: the plugin of this getter is missing; install it again, or delete $here" >&2\n\texit 127\nfi\n'
            'exec "$launch" getter "$@"\n'
        )
    script = f'#!/bin/sh\n# Helm calls this for mar:// addresses.\nhere=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)\n{start}'
    return {"plugin.yaml": plugin, "mar-get": script.encode()}


def _getter_program() -> bytes:
    """Return the program that pip created for Windows. A batch file would be unsafe: an address could inject commands for cmd.exe."""
    program = Path(sysconfig.get_path("scripts")) / "mar-get.exe"
    try:
        return program.read_bytes()
    except OSError as error:
        raise StorageError(
            f"`{program}` cannot be read, and Helm needs it for mar://",
            code="file-unusable",
            hint="install marfetch with pip, which creates it: python -m pip install --force-reinstall marfetch",
            path=str(program),
        ) from error


def _command_files() -> dict[str, bytes]:
    """Return the names and contents of the files of `helm marfetch`. Its launchers run the current Python."""
    systems = "\n".join(f"  - os: {system}\n    command: '$HELM_PLUGIN_DIR/marfetch'" for system in ("linux", "darwin"))
    plugin = (
        f'name: {PLUGIN}\nversion: {__version__}\nusage: "fetch Helm charts and other artifacts from the Microsoft Artifact Registry"\n'
        f'description: "Fetches artifacts of the Microsoft Artifact Registry, every byte checked."\n'
        f"platformCommand:\n{systems}\n  - os: windows\n    command: 'py -3 $HELM_PLUGIN_DIR/marfetch.py'\n"
        'hooks:\n  delete: \'d=$(dirname "$HELM_PLUGIN_DIR")/marfetch-getter;'
        ' if grep -qs "^name: marfetch-getter$" "$d/plugin.yaml"; then rm -rf "$d"; fi\'\n'
    )
    texts = {
        "plugin.yaml": plugin,
        "marfetch": f'#!/bin/sh\nexec {_started()} "$@"\n',
        "marfetch.py": "import subprocess as s\nimport sys\n\n"
        f'sys.exit(s.call([{sys.executable!r}, "-P", "-m", "marfetch", *sys.argv[1:]]))\n',
        "plugin.complete": f'#!/bin/sh\nexec {_started()} __complete "$@"\n',
    }
    return {name: text.encode() for name, text in texts.items()}


def _started() -> str:
    """Return the shell command that runs marfetch. `-P` keeps Python from importing modules from the current directory."""
    return f"{_quoted(sys.executable)} -P -m marfetch"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
