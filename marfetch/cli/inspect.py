"""`marfetch inspect` and `marfetch referrers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .options import Devel, OneReference, Settings, Verify, Version, shared

_Platform = Annotated[str | None, typer.Option("--platform", metavar="OS/ARCH", help="Of an index, the artifact for this platform.")]
_SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Pass over versions that are listed but have no manifest.")]
_ArtifactType = Annotated[list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="Only referrers of this artifact type.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only referrers of this kind, such as signature or sbom.")]
_Fetch = Annotated[bool, typer.Option("--fetch", help="Save them as files.")]
_Destination = Annotated[Path, typer.Option("--destination", "-d", metavar="DIR", help="Where the files go, with --fetch.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace a file that differs.")]


def register(app: typer.Typer) -> None:
    app.command()(inspect)
    app.command()(referrers)


@shared()
def inspect(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    platform: _Platform = None,
    skip_missing: _SkipMissing = False,
) -> int:
    """Show what an artifact is without fetching it: kind, layers, chart metadata, platforms, end of life, and what refers to it."""
    from ..client.inspection import inspect as look
    from ..oci import Platform
    from ..render.inspect import inspected
    from ..render.pull import wanted

    asked = wanted(settings.report, reference, version, devel=devel)
    wished = Platform.parse(platform) if platform else None
    with settings.client() as client:
        found = look(client, asked, platform=wished, skip_missing=skip_missing)
    return inspected(settings.report, found)


@shared()
def referrers(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    artifact_type: _ArtifactType = None,
    kind: _Kind = None,
    fetch: _Fetch = False,
    destination: _Destination = Path(),
    force: _Force = False,
    verify: Verify = False,
) -> int:
    """Show what refers to an artifact: signatures, SBOMs, lifecycle marks and others, each with its digest.

    With `--fetch`, prints a line for each file, as `pull` does. Each referrer goes into NAME.referrers/DIGEST/.
    """
    from ..artifact.kinds import kinds_named
    from ..client.inspection import referrers_of
    from ..client.pull import Task, pull_tasks, referrer_request
    from ..client.resolve import Wanted, resolve
    from ..render.inspect import referred
    from ..render.pull import pulled, wanted
    from ..verify.gate import gate

    types = [glob for one in kind or () for named in kinds_named(one) for glob in named.types] + list(artifact_type or ())
    if kind and not types:
        raise InputError(
            f"no artifact type tells `{', '.join(kind)}`, so referrers cannot be chosen by it",
            code="usage",
            hint="choose with `--artifact-type GLOB`",
        )
    if verify and not fetch:
        raise InputError("`--verify` says what may be saved, and `--fetch` is not given", code="usage", hint="add `--fetch`")
    asked = wanted(settings.report, reference, version, devel=devel)
    with settings.client() as client:
        resolved = resolve(client, asked)
        depth = 1 if fetch else 3
        found = referrers_of(resolved.repository, resolved.manifest.descriptor.digest, types=types, depth=depth)
        if not fetch:
            return referred(settings.report, resolved, found)
        check = gate(asked=verify)
        if check is not None:
            check.referrers(resolved.repository, (one.descriptor.digest for one in found))
        tasks = [
            Task(
                Wanted(one.reference),
                referrer_request(destination, resolved.reference.name, one.descriptor.digest, force=force),
                str(one.reference),
            )
            for one in found
        ]
        result = pull_tasks(client, tasks)
    return pulled(settings.report, result)
