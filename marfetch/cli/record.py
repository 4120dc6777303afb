"""`marfetch record` and `marfetch replay`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..content import Silent
from ..endpoint import Endpoint
from ..errors import InputError, StorageError
from .help import add
from .options import Settings, shared

_Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command to run, with its options.")]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Archive to write; an existing file is replaced.")]
_File = Annotated[Path, typer.Argument(metavar="FILE", help="Recording, as a tar file.")]
_Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="HOST[:PORT]", help="Other host that the command may connect to; may be repeated."),
]
_Summary = Annotated[Path | None, typer.Option("--summary", metavar="FILE", help="Write the result to this file, as one JSON object.")]


def register(app: typer.Typer) -> None:
    add(app, record)
    add(app, replay)


@shared(as_json=False)
def record(settings: Settings, command: _Command, output: _Output, summary: _Summary = None) -> int:
    """Run a command and record what it fetches from MAR.

    The command gets a proxy on loopback in its environment. What it gets from MAR is verified, cached, and written to FILE, an OCI image
    layout with the tag lists, tags and 404s of that moment. Connections to other hosts pass through; they are counted and named. Docker
    daemons, and programs that ignore proxy variables or bring their own certificates, are not recorded. The exit code is that of the
    command, unless it was 0 and the recording is incomplete.
    """
    _refuse_helm("record")
    endpoint = settings.preference().default()
    _refuse_loopback(endpoint, "record")
    if str(output) == "-":
        raise InputError("a recording cannot be written to stdout", code="usage", hint="name a file, such as `-o deps.tar`")
    _refuse_same(summary, output, "--output")
    for path in (output, *([summary] if summary is not None else [])):
        _refuse_unwritable(path)
    if not settings.offline:
        for _ in range(2):  # programs ask for the config and the layers of an artifact at the same time
            settings.connections.open(endpoint)
    from ..recording.record import record as run
    from ..render.record import print_ended

    report = settings.report
    with settings.client(progress=Silent(report.warn)) as client:  # the terminal belongs to the command
        client.fetches = True
        ended = run(client, endpoint, command, output)
    return print_ended(report, ended, summary)


@shared(network=False, local=True, as_json=False)
def replay(settings: Settings, file: _File, command: _Command, allow: _Allow = None, summary: _Summary = None) -> int:
    """Run a command, and answer its requests from a recording.

    A request for content that is not in FILE gets a 404 and is named; the exit code is then 8 if the command succeeds. Connections to other
    hosts are refused, unless `--allow` names the host.
    """
    _refuse_helm("replay")
    _refuse_loopback(settings.preference().default(), "replay")
    _refuse_same(summary, file, "FILE")
    if summary is not None:
        _refuse_unwritable(summary)
    from ..recording.record import replay as run
    from ..render.record import print_ended

    return print_ended(settings.report, run(file, command, allow or (), settings.ca_file, settings.budget().check), summary)


def _refuse_helm(name: str) -> None:
    if os.environ.get("HELM_PLUGIN_NAME") == "marfetch":
        raise InputError(
            f"`helm marfetch {name}` cannot run a command, because Helm removes options behind `--`",
            code="usage",
            hint=f"run `marfetch {name}` without Helm",
        )


def _refuse_loopback(endpoint: Endpoint, name: str) -> None:
    if endpoint.registry.host.is_loopback:
        raise InputError(
            f"`{name}` cannot use the endpoint `{endpoint.name}`: many programs never use a proxy for a loopback address",
            code="usage",
            hint="use `global`, `china` or a registry with another name",
        )


def _refuse_same(summary: Path | None, other: Path, name: str) -> None:
    if summary is None:
        return
    if str(summary) == "-":
        raise InputError("`--summary` cannot be stdout, which belongs to the command", code="usage", hint="name a file")
    is_same = summary.samefile(other) if summary.exists() and other.exists() else summary.absolute() == other.absolute()
    if is_same:
        raise InputError(f"`--summary` and `{name}` name the same file, `{summary}`", code="usage", hint="choose another file")


def _refuse_unwritable(path: Path) -> None:
    """Refuse a file that cannot be written, before the command runs."""
    from ..destination.destination import refuse_git

    refuse_git(path)
    parent = next((one for one in path.absolute().parents if one.exists()), Path("/"))
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        reason = "it is a directory" if path.is_dir() else f"`{parent}` is not a writable directory"
        raise StorageError(f"cannot write `{path}`: {reason}", code="file-unusable", hint="choose another path", path=str(path))
