"""`marfetch lock`, `sync` and `outdated`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .help import add
from .options import Executor, MinAge, Settings, Shard, shared

_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Project file; the lock file is next to it.")]
_Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Artifacts for --upgrade, or more files for --from.")]
_Upgrade = Annotated[bool, typer.Option("--upgrade", help="Move to the newest version in the range, and accept moved tags.")]
_Check = Annotated[bool, typer.Option("--check", help="Only check that the lock file matches the project file; make no requests.")]
_Locked = Annotated[bool, typer.Option("--locked", help="Fail if the lock file does not match the project file.")]
_Prune = Annotated[bool, typer.Option("--prune", help="Remove unchanged files of artifacts that left the project file.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without writing anything.")]

_From = Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Create marfetch.yaml from the references in this file.")]
_Chart = Annotated[Path | None, typer.Option("--chart", metavar="DIR", help="Lock the dependencies of the chart in this directory.")]

_FromPaths = Annotated[list[Path] | None, typer.Option("--from", metavar="PATH", help="Look at the versions in these files instead.")]
_MorePaths = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More files and directories for --from.")]

DEFAULT = Path("marfetch.yaml")


def register(app: typer.Typer) -> None:
    add(app, lock)
    add(app, sync)
    add(app, outdated)


@shared()
def lock(
    settings: Settings,
    names: _Names = None,
    file: _File = DEFAULT,
    upgrade: _Upgrade = False,
    check: _Check = False,
    min_age: MinAge = None,
    from_file: _From = None,
    chart: _Chart = None,
) -> int:
    """Lock the versions in marfetch.yaml.

    Writes the version and digest of each artifact to marfetch.lock. Locked versions that still match are kept, and a moved tag is an
    error; use `--upgrade` to update both. With `--from`, creates marfetch.yaml from charts, helmfiles, Argo CD and Flux files,
    Terraform, pipelines and scripts.
    """
    from ..project.locking import misfits, read_old, refuse_misfits, settle, upgrades, write, writing
    from ..project.wanted import read_project
    from ..render.project import print_lock_check, print_lock_result

    if chart is not None and from_file is not None:
        raise InputError("`--from` and `--chart` cannot be combined", code="usage", hint="use only one of them")
    if from_file is not None:
        if upgrade or check or min_age is not None:
            hint = "use `--from` alone"
            raise InputError("`--from` cannot be combined with `--upgrade`, `--check` or `--min-age`", code="usage", hint=hint)
        return _adopt(settings, file, [from_file, *map(Path, names or ())])
    if chart is not None:
        file = _adopt_chart(settings, chart)
    if names and not upgrade:
        raise InputError(
            f"names of artifacts, such as `{names[0][:80]}`, need `--upgrade`", code="usage", hint="add `--upgrade`, or remove the name"
        )
    if upgrade and check:
        raise InputError("`--check` and `--upgrade` cannot be combined", code="usage", hint="use only one of them")
    project = read_project(file).with_min_age(min_age)
    if check:
        old = read_old(project)
        if old is not None and not misfits(project, old):
            return print_lock_check(settings.report, project, old)
        refuse_misfits(project, old)
    chosen = upgrades(project, names or ()) if upgrade else frozenset()
    with settings.client(endpoint=project.endpoint) as client, writing(client, project):
        old = read_old(project)
        found = settle(client, project, old, upgrade=chosen)
        is_written = all(one.error is None for one in found) and write(project, found)
    return print_lock_result(settings.report, project, old, found, is_written=is_written)


@shared()
def sync(
    settings: Settings,
    file: _File = DEFAULT,
    locked: _Locked = False,
    dry_run: _DryRun = False,
    prune: _Prune = False,
    shard: Shard = None,
    executor: Executor = None,
) -> int:
    """Download the artifacts in marfetch.yaml.

    Downloads the versions in marfetch.lock, and replaces files that differ from it. Without `--locked`, artifacts that are not locked
    yet are locked first. Prints one line per artifact: outcome, name and pinned reference. Dask workers need the directory of
    marfetch.yaml under the same path. `--prune` also removes what an earlier `sync` wrote for artifacts that are no longer in
    marfetch.yaml; files and directories that were changed since are named and kept.
    """
    from ..client.workers import spread
    from ..project.prune import prune as prune_files
    from ..project.prune import remember
    from ..project.sync import Shard as Part
    from ..project.sync import spread as spread_items
    from ..project.sync import sync as sync_all
    from ..project.wanted import read_project
    from ..render.project import print_synced

    part = Part.parse(shard) if shard is not None else None
    project = read_project(file)
    with ExitStack() as stack:
        client = stack.enter_context(settings.client(endpoint=project.endpoint))
        workers = stack.enter_context(spread(executor)) if executor is not None else None
        elsewhere = spread_items(client, project, workers) if workers is not None else None
        result = sync_all(client, project, as_locked=locked, is_rehearsal=dry_run, shard=part, elsewhere=elsewhere)
    if not dry_run:
        remember(project, result)
    pruned = prune_files(project, result, is_rehearsal=dry_run) if prune else None
    return print_synced(settings.report, project, result, pruned)


@shared()
def outdated(
    settings: Settings, more: _MorePaths = None, file: _File = DEFAULT, from_paths: _FromPaths = None, min_age: MinAge = None
) -> int:
    """List newer versions of locked artifacts.

    Prints one line per outdated artifact: name, locked version, newest version in the range, newest version of all, and remarks on ended
    support and moved or deleted tags. With `--from`, looks at the versions in other files instead, and prints the lines of `bump
    --check`. The exit code is 1 if anything is outdated.
    """
    if from_paths:
        from .bump import run

        return run(settings, [*from_paths, *(more or ())], is_check=True, min_age=min_age)
    if more:
        raise InputError(f"paths, such as `{more[0]}`, need `--from`", code="usage", hint="add `--from`, or remove the path")
    from datetime import UTC, datetime

    from ..project.lockfile import read_lock
    from ..project.locking import refuse_misfits
    from ..project.outdated import outdated as compare
    from ..project.wanted import read_project
    from ..render.project import print_outdated

    project = read_project(file).with_min_age(min_age)
    lock = read_lock(project.lock_path)
    refuse_misfits(project, lock)
    with settings.client(endpoint=project.endpoint) as client:
        result = compare(client, project, lock, today=datetime.now(UTC).date())
    return print_outdated(settings.report, project, result)


def _adopt(settings: Settings, file: Path, paths: list[Path]) -> int:
    from ..project.adopt import collect
    from ..project.scaffold import wanted_bytes, write_first
    from ..project.wanted import read_project
    from ..render.project import print_adopted
    from .bump import registries

    adoption = collect(paths, settings.budget().check, registries(settings))
    write_first(file, wanted_bytes(adoption.found))
    return print_adopted(settings.report, read_project(file), adoption)


def _adopt_chart(settings: Settings, directory: Path) -> Path:
    from ..project.scaffold import adopt_chart

    file, adoption = adopt_chart(directory)
    for note in adoption.notes:
        settings.report.note(note)
    return file
