"""Find the files of a project that may name artifacts. Files that git ignores and the directories of tools are left out.

The rules of git are applied here instead of asking `git ls-files`: git runs programs that the configuration of a repository names, refuses
repositories of other users, and is not installed everywhere (docs/decisions/0024-files-of-a-project.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..files import storage_error

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_LEFT_OUT: Final = frozenset((".git", ".hg", ".svn", "node_modules", ".terraform", ".venv", "venv", ".tox", ".nox"))
_ENVIRONMENT: Final = ("pyvenv.cfg", "conda-meta")
"""Entries of a directory that is a virtual environment, whatever its name is."""
_SUFFIXES: Final = frozenset(
    (
        *(".yaml", ".yml", ".gotmpl", ".json", ".tf", ".tofu", ".tfvars", ".hcl", ".bicep", ".bicepparam"),
        *(".j2", ".tpl", ".tmpl", ".tftpl"),
        *(".sh", ".bash", ".zsh", ".fish", ".ksh", ".ps1", ".psm1", ".cmd", ".bat", ".mk", ".just", ".groovy"),
        *(".dockerfile", ".containerfile", ".jenkinsfile"),
    )
)
_NAMES: Final = re.compile(
    r"(?:dockerfile|containerfile|jenkinsfile|makefile|gnumakefile|justfile|earthfile|taskfile|tiltfile)(?:\..+)?", re.IGNORECASE
)
_MAX_IGNORE: Final = 1 << 20
"""The maximum size of a `.gitignore` in bytes; the rest is not read."""


class Listed(NamedTuple):
    """A file of the project.

    Attributes:
        path: the path as shown, below the path that the user named.
        real: the path with links resolved.
        is_script: whether only a first line such as `#!/bin/sh` shows that the file is a script.
    """

    path: Path
    real: Path
    is_script: bool = False


class _Rules(NamedTuple):
    """The rules of one `.gitignore`, for paths below its directory."""

    base: str
    spec: GitIgnoreSpec


def walk(paths: Sequence[Path], check: Callable[[], None] = lambda: None) -> Iterator[Listed]:
    """Yield the files of a project once each, in the order of the arguments, sorted within a directory.

    Args:
        paths: files and directories. A file in `paths` is always listed.
        check: called for each directory; it raises when the timeout has passed.

    Raises:
        StorageError: a path does not exist, or cannot be read.
    """
    seen: set[Path] = set()
    for path in paths:
        try:
            real = path.resolve(strict=True)
            found = _below(path, real, check) if real.is_dir() else iter([Listed(path, real)])
            for one in found:
                if one.real not in seen:
                    seen.add(one.real)
                    yield one
        except OSError as error:
            raise storage_error(error, str(error.filename or path)) from error


def _below(top: Path, root: Path, check: Callable[[], None]) -> Iterator[Listed]:
    links: list[Listed] = []
    places: list[tuple[Path, Path, tuple[_Rules, ...]]] = [(top, root, _rules_above(root))]
    while places:
        shown, real, rules = places.pop()
        check()
        with os.scandir(real) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        names = {entry.name for entry in found}
        if real != root and not names.isdisjoint(_ENVIRONMENT):
            continue
        if ".git" in names and real != root:
            rules = _exclude(real)  # a nested repository has its own rules
        if ".gitignore" in names:
            rules = (*rules, *_read(real / ".gitignore", real))
        below: list[tuple[Path, Path, tuple[_Rules, ...]]] = []
        for entry in found:
            path = real / entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _LEFT_OUT and not _is_ignored(f"{path}/", rules):
                    below.append((shown / entry.name, path, rules))
            elif (is_script := _kind(entry.name)) is not None and not _is_ignored(str(path), rules):
                one = Listed(shown / entry.name, path, is_script)
                if not entry.is_symlink():
                    if entry.is_file(follow_symlinks=False):
                        yield one
                    continue
                with suppress(OSError, RuntimeError):  # a broken link, or a loop of links
                    target = path.resolve(strict=True)
                    if target.is_file() and target.is_relative_to(root):
                        links.append(one._replace(real=target))
        places += reversed(below)
    yield from links  # last, so that a file is listed by its own name if it can be


def _kind(name: str) -> bool | None:
    """Return whether only the first line can show that a file is a script; None if the name shows that the file names no artifacts."""
    if Path(name).suffix.lower() in _SUFFIXES or _NAMES.fullmatch(name):
        return False
    return None if "." in name else True


def _is_ignored(path: str, rules: Sequence[_Rules]) -> bool:
    """Return whether git ignores a path. The rules of the deepest directory have priority (gitignore(5))."""
    for one in reversed(rules):
        include = one.spec.check_file(path[len(one.base) :]).include
        if include is not None:
            return include
    return False


def _rules_above(root: Path) -> tuple[_Rules, ...]:
    """Return the rules of the directories above, up to the top of the repository."""
    above = [root, *root.parents]
    top = next((number for number, one in enumerate(above) if (one / ".git").exists()), None)
    if top is None:
        return ()
    rules = (*_exclude(above[top]), *(rule for one in reversed(above[1 : top + 1]) for rule in _read(one / ".gitignore", one)))
    # A directory that the user named is searched even if git ignores it.
    return () if any(_is_ignored(f"{one}/", rules) for one in above[:top]) else rules


def _exclude(top: Path) -> tuple[_Rules, ...]:
    return _read(top / ".git" / "info" / "exclude", top)


def _read(path: Path, base: Path) -> tuple[_Rules, ...]:
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_IGNORE).decode("utf-8-sig", "surrogateescape").splitlines()
    except OSError:
        return ()
    import pathspec  # late: many projects have no `.gitignore`

    return (_Rules(f"{base}/" if str(base) != "/" else "/", pathspec.GitIgnoreSpec.from_lines(lines)),)
