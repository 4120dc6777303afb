"""`marfetch inspect`, `marfetch show` and `marfetch referrers`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .help import add
from .options import Devel, Force, OneReference, PlatformName, Settings, SkipMissing, Verify, Version, shared

_ArtifactType = Annotated[list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="Only referrers with this artifact type.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only referrers of this kind, such as signature or sbom.")]
_Fetch = Annotated[bool, typer.Option("--fetch", help="Save the referrers as files.")]
_Destination = Annotated[Path, typer.Option("--destination", "-d", metavar="DIR", help="Directory for the files, with --fetch.")]


class PartName(StrEnum):
    CHART = "chart"
    VALUES = "values"
    README = "readme"
    SCHEMA = "schema"
    CRDS = "crds"
    PARAMS = "params"


_Part = Annotated[PartName, typer.Argument(metavar="PART", help="chart, values, readme, schema, crds or params.")]


def register(app: typer.Typer) -> None:
    add(app, inspect)
    add(app, show)
    add(app, referrers)


@shared()
def inspect(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    platform: PlatformName = None,
    skip_missing: SkipMissing = False,
) -> int:
    """Show an artifact's metadata, layers and referrers.

    Prints a tree with kind, layers, chart metadata, platforms, end of life and referrers. Downloads no layers.
    """
    from ..client.inspection import inspect as inspect_artifact
    from ..oci import Platform
    from ..render.inspect import print_inspection

    request = settings.request(reference, version, devel=devel)
    chosen = Platform.parse(platform) if platform else None
    with settings.client() as client:
        found = inspect_artifact(client, request, platform=chosen, skip_missing=skip_missing)
    return print_inspection(settings.report, found)


@shared()
def show(
    settings: Settings,
    part: _Part,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    platform: PlatformName = None,
    skip_missing: SkipMissing = False,
    verify: Verify = False,
) -> int:
    """Print one part of a chart or Bicep module.

    \b
      chart     Chart.yaml
      values    values.yaml
      readme    README.md, README.txt or README
      schema    values.schema.json
      crds      the CRDs of the chart and its sub-charts, joined with ---
      params    the parameters and outputs of a Bicep module

    Prints the file byte for byte as it is in the package, and writes no files.
    """
    from ..client.show import show as show_part
    from ..oci import Platform
    from ..render.inspect import print_part
    from ..verify.gate import gate

    check = gate(asked=verify)
    chosen = Platform.parse(platform) if platform else None
    request = settings.request(reference, version, devel=devel)
    with settings.client() as client:
        shown = show_part(client, request, part.value, platform=chosen, skip_missing=skip_missing, gate=check)
    return print_part(settings.report, shown)


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
    force: Force = False,
    verify: Verify = False,
) -> int:
    """List an artifact's signatures, SBOMs and other referrers.

    With `--fetch`, saves each referrer in NAME.referrers/DIGEST/ and prints one line per file, as `pull` does.
    """
    from ..artifact.kinds import kinds_named
    from ..client.inspection import referrers_of
    from ..client.pull import Task, pull_tasks, referrer_request
    from ..client.resolve import Wanted, resolve
    from ..render.inspect import print_referrers
    from ..render.pull import print_pulled
    from ..verify.gate import gate

    types = [glob for named in kinds_named(*(kind or ())) for glob in named.types] + list(artifact_type or ())
    if kind and not types:
        raise InputError(
            f"the kind `{', '.join(kind)}` has no artifact type, so `--kind` cannot select referrers by it",
            code="usage",
            hint="use `--artifact-type GLOB`",
        )
    if verify and not fetch:
        raise InputError("`--verify` needs `--fetch`", code="usage", hint="add `--fetch`")
    request = settings.request(reference, version, devel=devel)
    with settings.client() as client:
        resolved = resolve(client, request)
        depth = 1 if fetch else 3
        found = referrers_of(resolved.repository, resolved.manifest.descriptor.digest, types=types, depth=depth)
        if not fetch:
            return print_referrers(settings.report, resolved, found)
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
    return print_pulled(settings.report, result)
