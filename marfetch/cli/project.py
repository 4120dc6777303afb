"""`marfetch lock`, `sync` and `outdated`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .options import Executor, Settings, Shard, shared

if TYPE_CHECKING:
    from ..client.session import Session
    from ..project.wanted import Project

_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The wanted file; the lock stands beside it.")]
_Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="With --upgrade: only these. With --from: further files.")]
_Upgrade = Annotated[bool, typer.Option("--upgrade", help="Take the newest in the range, and tags that were moved.")]
_Check = Annotated[bool, typer.Option("--check", help="Only say whether the lock fits the wanted file; ask nobody.")]
_Locked = Annotated[bool, typer.Option("--locked", help="Resolve nothing anew: the lock has to fit.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]

_From = Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Write a first marfetch.yaml out of these files.")]
_Chart = Annotated[Path | None, typer.Option("--chart", metavar="DIR", help="Pin the dependencies of the chart in this directory.")]

DEFAULT = Path("marfetch.yaml")


def register(app: typer.Typer) -> None:
    app.command()(lock)
    app.command()(sync)
    app.command()(outdated)


@shared()
def lock(
    settings: Settings,
    names: _Names = None,
    file: _File = DEFAULT,
    upgrade: _Upgrade = False,
    check: _Check = False,
    from_file: _From = None,
    chart: _Chart = None,
) -> int:
    """Find what marfetch.yaml wants, and write it down in marfetch.lock, digests and all.

    What is locked and still fits stays, without --upgrade. A tag that was moved since then is refused until it is upgraded.
    With --from, a first marfetch.yaml is written out of charts, helmfiles, Argo CD and Flux manifests, pipelines and scripts.
    """
    from ..project.locking import misfits, read_old, refuse_misfits, settle, upgrades, write, writing
    from ..project.wanted import read_project
    from ..render.project import checked, locked

    if chart is not None and from_file is not None:
        raise InputError("`--from` and `--chart` do not go together", code="usage", hint="leave one of the two out")
    if from_file is not None:
        if upgrade or check:
            raise InputError("`--from` writes a first wanted file, and nothing else goes with it", code="usage")
        return _adopt(settings, file, [from_file, *map(Path, names or ())])
    if chart is not None:
        file = _adopt_chart(settings, chart)
    if names and not upgrade:
        raise InputError(f"`{names[0][:80]}` names what to upgrade", code="usage", hint="add `--upgrade`, or leave the name out")
    if upgrade and check:
        raise InputError("`--check` changes nothing, so `--upgrade` does not go with it", code="usage", hint="leave one of the two out")
    project = read_project(file)
    if check:
        old = read_old(project)
        if old is not None and not misfits(project, old):
            return checked(settings.report, project, old)
        refuse_misfits(project, old)
    chosen = upgrades(project, names or ()) if upgrade else frozenset()
    with _client(settings, project) as client, writing(client, project):
        old = read_old(project)
        found = settle(client, project, old, upgrade=chosen)
        is_written = all(one.error is None for one in found) and write(project, found)
    return locked(settings.report, project, old, found, is_written=is_written)


@shared()
def sync(
    settings: Settings,
    file: _File = DEFAULT,
    locked: _Locked = False,
    dry_run: _DryRun = False,
    shard: Shard = None,
    executor: Executor = None,
) -> int:
    """Bring the files that marfetch.yaml wants to what marfetch.lock says; nothing else is touched.

    Prints one line for each artifact: what became of it, its name, and the pinned reference. With --executor the workers fetch and write;
    they share the directory of marfetch.yaml, under the same path.
    """
    from ..client.workers import spread
    from ..project.sync import Shard as Part
    from ..project.sync import spread as spread_items
    from ..project.sync import sync as sync_all
    from ..project.wanted import read_project
    from ..render.project import synced

    part = Part.parse(shard) if shard is not None else None
    project = read_project(file)
    with ExitStack() as stack:
        client = stack.enter_context(_client(settings, project))
        workers = stack.enter_context(spread(executor)) if executor is not None else None
        elsewhere = spread_items(client, project, workers) if workers is not None else None
        result = sync_all(client, project, as_locked=locked, is_rehearsal=dry_run, shard=part, elsewhere=elsewhere)
    return synced(settings.report, project, result)


@shared()
def outdated(settings: Settings, file: _File = DEFAULT) -> int:
    """Say what is newer than what is locked, in the range and beyond it, what has ended, and which tags were moved.

    Prints one line for each artifact with news: its name, its version, the newest in the range, the newest of all, and remarks.
    The exit code is 1 where there are news.
    """
    from datetime import UTC, datetime

    from ..project.lockfile import read_lock
    from ..project.locking import refuse_misfits
    from ..project.outdated import outdated as compare
    from ..project.wanted import read_project
    from ..render.project import aged

    project = read_project(file)
    lock = read_lock(project.lock_path)
    refuse_misfits(project, lock)
    with _client(settings, project) as client:
        result = compare(client, project, lock, today=datetime.now(UTC).date())
    return aged(settings.report, project, result)


def _adopt(settings: Settings, file: Path, paths: list[Path]) -> int:
    from ..project.adopt import collect
    from ..project.scaffold import wanted_bytes, write_first
    from ..project.wanted import read_project
    from ..render.project import adopted

    adoption = collect(paths)
    write_first(file, wanted_bytes(adoption.found))
    return adopted(settings.report, read_project(file), adoption)


def _adopt_chart(settings: Settings, directory: Path) -> Path:
    from ..project.scaffold import adopt_chart

    file, adoption = adopt_chart(directory)
    for note in adoption.notes:
        settings.report.note(note)
    return file


def _client(settings: Settings, project: Project) -> Session:
    return settings.client(endpoint=project.endpoint)
