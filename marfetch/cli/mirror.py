"""`marfetch mirror`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from .bundle import PlainHttp, Referrers
from .help import add
from .options import Executor, Settings, Shard, shared

_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Project file; the registry gets what its lock file names.")]
_To = Annotated[str, typer.Option("--to", metavar="HOST[:PORT][/PREFIX]", help="Your own registry.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be uploaded, without uploading anything.")]


def register(app: typer.Typer) -> None:
    add(app, mirror)


@shared()
def mirror(
    settings: Settings,
    to: _To,
    file: _File = Path("marfetch.yaml"),
    dry_run: _DryRun = False,
    referrers: Referrers = False,
    plain_http: PlainHttp = False,
    shard: Shard = None,
    executor: Executor = None,
) -> int:
    """Copy everything in marfetch.lock into your own registry.

    Copies the original bytes and uploads only what the registry lacks: blobs first, tags last. Repositories keep their paths below the
    prefix. Prints one line per artifact: the outcome and the new pinned reference. An interrupted run resumes where it stopped. Nothing is
    ever uploaded to MAR. `--data-host` names hosts of the registry in `--to`, and of your own registry in `--endpoint`.
    """
    from ..bundle.clients import client_lines
    from ..bundle.mirror import To, mirror
    from ..client.workers import spread
    from ..project.sync import Shard as Part
    from ..project.wanted import read_project
    from ..render.bundle import print_loaded

    target = To.parse(to, plain_http=plain_http, data_hosts=settings.data_hosts)
    part = Part.parse(shard) if shard is not None else None
    project = read_project(file)
    if settings.preference(project.endpoint)._replace(data_hosts=()).default().official:
        settings = settings._replace(data_hosts=())  # the data hosts belong to the target, and an official endpoint takes none
    with ExitStack() as stack:
        client = stack.enter_context(settings.client(endpoint=project.endpoint))
        workers = stack.enter_context(spread(executor)) if executor is not None else None
        found = mirror(client, project, target, with_referrers=referrers, is_rehearsal=dry_run, shard=part, executor=workers)
        return print_loaded(settings.report, file, target, found, {} if dry_run else client_lines(target, found))
