"""`marfetch pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Error, InputError
from ..text import typed
from .options import Devel, References, Settings, Verify, Version, shared

if TYPE_CHECKING:
    from ..artifact.payload import Choice
    from ..client.pull import Failed
    from ..client.resolve import Wanted

_Destination = Annotated[Path, typer.Option("--destination", "-d", metavar="DIR", help="Where the files go.")]
_MediaType = Annotated[list[str] | None, typer.Option("--media-type", metavar="GLOB", help="Only layers of this media type.")]
_ArtifactType = Annotated[list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="Only an artifact of this type.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only an artifact of this kind, such as chart.")]
_Platform = Annotated[str | None, typer.Option("--platform", metavar="OS/ARCH", help="Of an index, the artifact for this platform.")]
_Prov = Annotated[bool, typer.Option("--prov", help="The provenance of a chart too.")]
_AllLayers = Annotated[bool, typer.Option("--all-layers", help="Every layer, also of a container image.")]
_Untar = Annotated[bool, typer.Option("--untar", help="Unpack charts and other tar archives into directories.")]
_UntarDir = Annotated[Path | None, typer.Option("--untardir", metavar="DIR", help="Where to unpack; below the destination if relative.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace a file that differs.")]
_SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Pass over versions that are listed but have no manifest.")]


def register(app: typer.Typer) -> None:
    app.command()(pull)
    app.command()(plan)


@shared()
def pull(
    settings: Settings,
    references: References,
    destination: _Destination = Path(),
    version: Version = None,
    devel: Devel = False,
    media_type: _MediaType = None,
    artifact_type: _ArtifactType = None,
    kind: _Kind = None,
    platform: _Platform = None,
    prov: _Prov = False,
    all_layers: _AllLayers = False,
    untar: _Untar = False,
    untardir: _UntarDir = None,
    force: _Force = False,
    skip_missing: _SkipMissing = False,
    verify: Verify = False,
) -> int:
    """Fetch artifacts: their payload layers, chosen by media type, every byte checked.

    Prints one line for each file, or directory with --untar: its path, its digest, and the pinned reference that it came from.
    """
    settings.preconnect(references[0])
    from ..client.pull import PullOptions
    from ..client.pull import pull as pull_all
    from ..oci import Platform
    from ..render.pull import pulled
    from ..verify.gate import gate

    choice = _choice(media_type, artifact_type, kind, prov=prov, all_layers=all_layers)
    if untardir is not None and not untar:
        raise InputError("`--untardir` says where to unpack, and `--untar` is not given", code="usage", hint="add `--untar`")
    check = gate(asked=verify)
    if check is not None:
        from ..render.verify import signer

        check.signer = signer
    request = PullOptions(
        destination,
        choice,
        Platform.parse(platform) if platform else None,
        force,
        skip_missing,
        untar=(untardir or Path()) if untar else None,
        gate=check,
    )
    asked = [_asked(settings, text, version, devel=devel) for text in references]
    with settings.client() as client:
        result = pull_all(client, asked, request)
    return pulled(settings.report, result)


@shared()
def plan(
    settings: Settings,
    references: References,
    version: Version = None,
    devel: Devel = False,
    media_type: _MediaType = None,
    artifact_type: _ArtifactType = None,
    kind: _Kind = None,
    platform: _Platform = None,
    prov: _Prov = False,
    all_layers: _AllLayers = False,
    skip_missing: _SkipMissing = False,
) -> int:
    """Show what a pull would need: hosts, requests and bytes. No blob is asked for.

    Lines with `artifact`: reference, kind, bytes to fetch; with `host`: name, port, protocol, requests, bytes; with `total` the sums.
    """
    from ..client.plan import plan as look
    from ..client.pull import PullOptions
    from ..oci import Platform
    from ..render.inspect import planned

    choice = _choice(media_type, artifact_type, kind, prov=prov, all_layers=all_layers)
    request = PullOptions(Path(), choice, Platform.parse(platform) if platform else None, skip_missing=skip_missing)
    asked = [_asked(settings, text, version, devel=devel) for text in references]
    with settings.client() as client:
        result = look(client, asked, request)
    return planned(settings.report, result)


def _choice(
    media_type: list[str] | None, artifact_type: list[str] | None, kind: list[str] | None, *, prov: bool, all_layers: bool
) -> Choice:
    """Which layers the options mean."""
    from ..artifact.kinds import kinds_named
    from ..artifact.payload import Choice

    return Choice(
        media_types=tuple(media_type or ()),
        artifact_types=tuple(artifact_type or ()),
        kinds=tuple(one for text in kind or () for one in kinds_named(text)),
        provenance=prov,
        all_layers=all_layers,
    )


def _asked(settings: Settings, text: str, version: str | None, *, devel: bool) -> Wanted | Failed:
    """What one REF asks for; one that cannot be read does not keep the others from being tried."""
    from ..client.pull import Failed
    from ..render.pull import wanted

    try:
        return wanted(settings.report, text, version, devel=devel)
    except Error as error:
        return Failed(typed(text), error)
