"""`marfetch pull`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Error, InputError
from ..text import typed
from .help import add
from .options import Devel, Force, MinAge, PlatformName, References, Settings, SkipMissing, Verify, Version, shared

if TYPE_CHECKING:
    from ..artifact.payload import Choice
    from ..client.age import CoolDown
    from ..client.pull import Failed
    from ..client.resolve import Wanted

_Destination = Annotated[Path, typer.Option("--destination", "-d", metavar="DIR", help="Directory for the files.")]
_Output = Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Name for the one file; `-` is stdout.")]
_MediaType = Annotated[list[str] | None, typer.Option("--media-type", metavar="GLOB", help="Only layers with this media type.")]
_ArtifactType = Annotated[list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="Required artifact type.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Required artifact kind, such as chart.")]
_Prov = Annotated[bool, typer.Option("--prov", help="Include the provenance file of a chart.")]
_AllLayers = Annotated[bool, typer.Option("--all-layers", help="Include every layer, even of a container image.")]
_Untar = Annotated[bool, typer.Option("--untar", help="Unpack charts and other tar archives into directories.")]
_UntarDir = Annotated[Path | None, typer.Option("--untardir", metavar="DIR", help="Directory to unpack into, relative to --destination.")]


def register(app: typer.Typer) -> None:
    add(app, pull)
    add(app, plan)


@shared()
def pull(
    settings: Settings,
    references: References,
    destination: _Destination = Path(),
    output: _Output = None,
    version: Version = None,
    devel: Devel = False,
    min_age: MinAge = None,
    media_type: _MediaType = None,
    artifact_type: _ArtifactType = None,
    kind: _Kind = None,
    platform: PlatformName = None,
    prov: _Prov = False,
    all_layers: _AllLayers = False,
    untar: _Untar = False,
    untardir: _UntarDir = None,
    force: Force = False,
    skip_missing: SkipMissing = False,
    verify: Verify = False,
) -> int:
    """Download artifacts.

    Saves the payload layers, chosen by media type, after checking every byte. Prints one line per file, or per directory with `--untar`:
    path, digest and pinned reference. `--output` saves a single payload under a name that you choose.
    """
    to_stdout = False
    if output is not None:
        _check_output(output, references, destination, untar=untar or untardir is not None)
        from ..destination.stream import STDOUT, stream_path

        to_stdout = stream_path(output) == STDOUT
    if to_stdout and settings.report.as_json:
        hint = "remove `--json`, or use the name of a file"
        raise InputError("`--output` and `--json` cannot both write to stdout", code="usage", hint=hint)
    from ..client.pull import PullOptions, pull_to_file
    from ..client.pull import pull as pull_all
    from ..oci import Platform
    from ..render.pull import print_pulled
    from ..verify.gate import cool_down, gate

    minimum = cool_down(min_age)
    choice = _choice(media_type, artifact_type, kind, prov=prov, all_layers=all_layers)
    if untardir is not None and not untar:
        raise InputError("`--untardir` needs `--untar`", code="usage", hint="add `--untar`")
    check = gate(asked=verify)
    if check is not None:
        from ..render.verify import signer_line

        check.signer = signer_line
    options = PullOptions(
        destination,
        choice,
        Platform.parse(platform) if platform else None,
        force,
        skip_missing,
        untar=(untardir or Path()) if untar else None,
        gate=check,
    )
    requests = [_request(settings, text, version, devel=devel, cool_down=minimum) for text in references]
    with settings.client() as client:
        result = pull_all(client, requests, options) if output is None else pull_to_file(client, requests[0], options, output)
    if to_stdout and not result.failed:
        return 0  # stdout has the payload itself
    return print_pulled(settings.report, result)


@shared()
def plan(
    settings: Settings,
    references: References,
    version: Version = None,
    devel: Devel = False,
    media_type: _MediaType = None,
    artifact_type: _ArtifactType = None,
    kind: _Kind = None,
    platform: PlatformName = None,
    prov: _Prov = False,
    all_layers: _AllLayers = False,
    skip_missing: SkipMissing = False,
) -> int:
    """Show the hosts, requests and bytes that a pull would need.

    Prints `artifact` lines with reference, kind and bytes, `host` lines with name, port, protocol, requests and bytes, and a `total` line.
    Downloads no layers.
    """
    from ..client.plan import plan as plan_all
    from ..client.pull import PullOptions
    from ..oci import Platform
    from ..render.inspect import print_plan

    choice = _choice(media_type, artifact_type, kind, prov=prov, all_layers=all_layers)
    options = PullOptions(Path(), choice, Platform.parse(platform) if platform else None, skip_missing=skip_missing)
    requests = [_request(settings, text, version, devel=devel) for text in references]
    with settings.client() as client:
        result = plan_all(client, requests, options)
    return print_plan(settings.report, result)


def _check_output(output: str, references: list[str], destination: Path, *, untar: bool) -> None:
    def refuse(what: str, hint: str) -> InputError:
        return InputError(f"`--output` {what}", code="usage", hint=hint)

    if len(references) > 1:
        raise refuse(f"names one file, but there are {len(references)} references", "pull them one by one, or use `--destination`")
    if untar:
        raise refuse("saves a payload as a file, but `--untar` unpacks it", "remove one of the two")
    if destination != Path():
        raise refuse("cannot be combined with `--destination`", "write the directory in front of the name of the file")
    if not output or output.endswith(("/", os.sep)) or output.rsplit("/", maxsplit=1)[-1] in (".", ".."):
        raise refuse(f"takes the name of a file, not `{output[:200]}`", "add a name, or use `--destination` for a directory")


def _choice(
    media_type: list[str] | None, artifact_type: list[str] | None, kind: list[str] | None, *, prov: bool, all_layers: bool
) -> Choice:
    from ..artifact.kinds import kinds_named
    from ..artifact.payload import Choice

    return Choice(
        media_types=tuple(media_type or ()),
        artifact_types=tuple(artifact_type or ()),
        kinds=kinds_named(*(kind or ())),
        provenance=prov,
        all_layers=all_layers,
    )


def _request(settings: Settings, text: str, version: str | None, *, devel: bool, cool_down: CoolDown | None = None) -> Wanted | Failed:
    """Parse one REF. Return an invalid one as a failure, so that the other REFs are still processed."""
    from ..client.pull import Failed

    try:
        return settings.request(text, version, devel=devel, cool_down=cool_down)
    except Error as error:
        return Failed(typed(text), error)
