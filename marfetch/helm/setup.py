"""Puts marfetch into Helm's plugin folder: `helm marfetch` and the getter for `mar://`, two plugins since Helm 4 gives a plugin one type.

Only legacy plugin files are written: one of the newer form breaks every plugin of those who use Helm 3. Each folder is made aside,
deeper than Helm looks, and renamed: Helm never sees half of one, nor two of one name, also where the process is killed in between.
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
from ..files import home, storage_error

PLUGIN: Final = "marfetch"
GETTER: Final = "marfetch-getter"
_HERE: Final = Path(__file__).parent
_LAUNCHER: Final = Path("marfetch", "helm", "launch")
"""In a plugin that Helm has installed from the repository."""
_WRITTEN: Final = {"plugin.yaml", "plugin.complete", "marfetch", "marfetch.py"}
"""All that the folder of `helm marfetch` may hold where it is ours."""
_ASIDE: Final = ".marfetch-"
_LEFT_OVER: Final = 600.0
"""Seconds after which a folder made aside belongs to nobody any more."""
_STARTED = re.compile(r"^exec '([^']+)' -P -m marfetch", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
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
        return Path(environment.get("APPDATA", str(home()))) / "helm" / "plugins"
    shared = environment.get("XDG_DATA_HOME")
    if shared:
        return Path(shared) / "helm" / "plugins"
    return home() / ("Library" if sys.platform == "darwin" else ".local/share") / "helm" / "plugins"


def starts(plugins: Path) -> dict[str, str | None]:
    """Which of our plugins are in a folder, and which program each starts; None where it is one of its own folder."""
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
    """Put both plugins into a folder, started by the Python that runs now; a plugin that Helm has installed itself is left as it is.

    Raises:
        StorageError: it cannot be written, or something that is not ours has one of the names.
    """
    main, getter = plugins / PLUGIN, plugins / GETTER
    if (main / _LAUNCHER).exists():
        return [InstalledPlugin(PLUGIN, main, changed=False), *set_up_getter(main)]
    _refuse_others(plugins, {PLUGIN: main, GETTER: getter})
    _refuse_foreign({PLUGIN: main, GETTER: getter})
    wanted = [(main, _command_files()), (getter, _getter_files())]
    return [_place(path, files) for path, files in wanted]


def set_up_getter(plugin: Path) -> list[InstalledPlugin]:
    """Put the getter beside a plugin that Helm has installed itself.

    Args:
        plugin: its folder as Helm names it; what it is called there depends on where it came from.

    Raises:
        StorageError: as `set_up`, or there is no such plugin.
    """
    if not (plugin / _LAUNCHER).exists():
        raise StorageError(
            f"`{plugin}` is not a plugin of marfetch: it has no `{_LAUNCHER.as_posix()}`",
            code="file-unusable",
            hint="delete it and install the plugin again with `helm plugin install`",
            path=str(plugin),
        )
    getter = plugin.parent / GETTER
    _refuse_others(plugin.parent, {PLUGIN: plugin, GETTER: getter})
    _refuse_foreign({GETTER: getter})
    return [_place(getter, _getter_files(beside=plugin.name))]


def _refuse_others(plugins: Path, own: Mapping[str, Path]) -> None:
    """Two folders with one name make all plugins of a user fail."""
    for file in sorted(plugins.glob("*/plugin.yaml")):
        found = _name(file)
        if found is not None and found in own and file.parent != own[found]:
            raise StorageError(
                f"another plugin is called `{found}` already: `{file.parent}`",
                code="file-differs",
                hint=f"delete the one that you do not want: `{file.parent}` or `{own[found]}`; Helm cannot while both are there",
                path=str(file.parent),
            )


def _refuse_foreign(own: Mapping[str, Path]) -> None:
    """Nothing is replaced but what an earlier call has written, or a link that leads nowhere."""
    for name, path in own.items():
        if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
            continue
        if not _is_ours(path, name):
            raise StorageError(
                f"something else is at `{path}`, and it is not replaced",
                code="file-differs",
                hint="move it away, and run it again",
                path=str(path),
            )


def _is_ours(path: Path, name: str) -> bool:
    if not path.is_dir():
        return False
    held = {one.name for one in path.iterdir()}
    # Nobody but us makes a getter of this name; what is called marfetch may hold more than we wrote.
    return not held or (_name(path / "plugin.yaml") == name and (name == GETTER or held <= _WRITTEN))


def _name(file: Path) -> str | None:
    """What a plugin file calls its plugin; None where there is none that can be read."""
    with suppress(OSError, Error):
        document = parse_yaml(file.read_bytes(), f"`{file}`")
        if isinstance(document, dict) and isinstance(document.get("name"), str):
            return str(document["name"])
    return None


def _place(path: Path, files: Mapping[str, bytes]) -> InstalledPlugin:
    """Make a folder hold exactly these files."""
    try:
        if _holds(path, files):
            return InstalledPlugin(path.name, path, changed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        # Helm looks for `*/plugin.yaml`, in hidden folders too: what is not in its place yet lies one level deeper.
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
                if _holds(path, files):  # another process was faster
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
    """Take away what a killed process has left."""
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
    """The getter's folder; `beside` names that of the plugin whose launcher it starts."""
    plugin = (_HERE / "getter.plugin").read_bytes()
    if os.name == "nt":
        return {"plugin.yaml": plugin, "mar-get.exe": _getter_program()}
    if beside is None:
        start = f'exec {_started()} getter "$@"\n'
    else:
        start = (
            f'launch="$here"/../{_quoted(beside)}/{_LAUNCHER.as_posix()}\n'
            'if [ ! -x "$launch" ]; then\n'
            '\techo "marfetch: the plugin that this getter belongs to is gone; install it again, or delete $here" >&2\n\texit 127\nfi\n'
            'exec "$launch" getter "$@"\n'
        )
    script = f'#!/bin/sh\n# Helm calls this for mar:// addresses.\nhere=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)\n{start}'
    return {"plugin.yaml": plugin, "mar-get": script.encode()}


def _getter_program() -> bytes:
    """On Windows the program that pip makes of the entry point: a batch file would hand what an address holds to cmd.exe as commands."""
    program = Path(sysconfig.get_path("scripts")) / "mar-get.exe"
    try:
        return program.read_bytes()
    except OSError as error:
        raise StorageError(
            f"`{program}` cannot be read, and Helm needs it for mar://",
            code="file-unusable",
            hint="install marfetch with pip, which makes it: python -m pip install --force-reinstall marfetch",
            path=str(program),
        ) from error


def _command_files() -> dict[str, bytes]:
    """The folder of `helm marfetch` for a marfetch that pip has installed: as the repository's own plugin file, with other launchers."""
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
    """How a shell starts marfetch. `-P`: what lies in the directory that Helm was called in is never taken for a module of ours."""
    return f"{_quoted(sys.executable)} -P -m marfetch"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
