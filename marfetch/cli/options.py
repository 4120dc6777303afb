"""The options that commands share, each declared once; `shared` gives them to a command as one value."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT, Preference
from ..errors import InputError, Interrupted
from ..remote.preconnect import ConnectionSetups
from ..render.report import Report
from ..text import printable

if TYPE_CHECKING:
    from ..budget import Budget
    from ..client.session import Session

_REFERENCE_HELP = "A reference, such as aks/foo:1.2.3, or a text that holds one."

References = Annotated[list[str], typer.Argument(metavar="REF...", help=_REFERENCE_HELP)]
OneReference = Annotated[str, typer.Argument(metavar="REF", help=_REFERENCE_HELP)]
Version = Annotated[str | None, typer.Option("--version", metavar="RANGE", help="A version or range with Helm's meaning, such as '^1.7'.")]
Devel = Annotated[bool, typer.Option("--devel", help="Take prereleases too.")]
Verify = Annotated[bool, typer.Option("--verify", help="Only what is signed as the trust policy asks. [MARFETCH_VERIFY=policy]")]
Shard = Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Only this part of the artifacts, for several machines.")]
Executor = Annotated[
    str | None, typer.Option("--executor", metavar="dask://HOST:PORT", help="Let the workers of this scheduler do it (extra `dask`).")
]

_Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="NAME|URL", help="global, china, or your own as https://host[:port]. [MARFETCH_ENDPOINT]"),
]
_DataHost = Annotated[
    list[str] | None,
    typer.Option("--data-host", metavar="HOST[:PORT]", help="Where an own registry's content may lie. [MARFETCH_DATA_HOSTS]"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")]
_Verbose = Annotated[bool, typer.Option("--verbose", help="Say what is asked of whom.")]
_Offline = Annotated[bool, typer.Option("--offline", help="Ask nobody; take what the cache has.")]
_Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Time for the whole command.")]
_Jobs = Annotated[int, typer.Option("--jobs", metavar="N", help="Requests to one host at a time, 1 to 32.")]
_CaFile = Annotated[str | None, typer.Option("--ca-file", metavar="PEM", help="Certificates to trust in place of the system's.")]
_CacheDir = Annotated[Path | None, typer.Option("--cache-dir", metavar="DIR", help="Where the cache is. [MARFETCH_CACHE_DIR]")]


class Settings(NamedTuple):
    """What the shared options say, and the voice that they choose."""

    report: Report
    endpoint: str | None
    data_hosts: tuple[str, ...]
    offline: bool
    timeout: float | None
    jobs: int
    ca_file: str | None
    cache_dir: Path | None
    ways: ConnectionSetups

    def preconnect(self, text: str) -> None:
        """Begin to open the connection that a reference will need, while the rest of marfetch is being loaded."""
        if not self.offline:
            self.ways.preconnect(text, self._preference(None))

    def client(self, *, endpoint: str | None = None) -> Session:
        """A client that works as the options say. The rest of marfetch is loaded here.

        Args:
            endpoint: what a file of the project says; counts as `--endpoint` where that is not given.

        Raises:
            InputError: `usage`.
        """
        from ..client.session import Session, SessionOptions

        preference = self._preference(endpoint)
        if preference.option:
            preference.default()  # a wrong endpoint is told before anything else
        options = SessionOptions(preference, self.cache_dir, self.offline, self.timeout, self.jobs, self.ca_file)
        return Session(options, self.report.progress, self.ways)

    def budget(self) -> Budget:
        """The time of a command that makes no client."""
        from ..budget import Budget

        return Budget(self.timeout)

    def _preference(self, endpoint: str | None) -> Preference:
        return Preference(self.endpoint or endpoint, os.environ.get(ENVIRONMENT) or None, self.data_hosts, os.environ.get(DATA_ENVIRONMENT))


def shared(*, network: bool = True, local: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the shared options: its first parameter becomes the `Settings` that they make.

    Args:
        network: also those about endpoints, time and the cache; otherwise only those about output.
        local: of those about the network only what every command takes: nothing is asked for here, but scripts give them to all.
    """
    output: dict[str, tuple[Any, Any]] = {"as_json": (_Json, False), "quiet": (_Quiet, False), "verbose": (_Verbose, False)}
    about_network: dict[str, tuple[Any, Any]] = {
        "endpoint": (_Endpoint, None),
        "data_host": (_DataHost, None),
        "offline": (_Offline, False),
        "timeout": (_Timeout, None),
        "jobs": (_Jobs, 16),
        "ca_file": (_CaFile, None),
        "cache_dir": (_CacheDir, None),
    }
    if local:
        about_network = {name: option for name, option in about_network.items() if name not in ("endpoint", "data_host")}
    added = {**about_network, **output} if network or local else output

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        extra = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in added.items()
        ]

        def wrapper(**values: Any) -> int:
            settings = _settings(command.__name__.replace("_", " "), **{option: values.pop(option) for option in added})
            current.report = settings.report
            try:
                return command(settings, **values)
            except KeyboardInterrupt as error:  # typer would turn it into an exit code of its own
                raise Interrupted("interrupted", code="interrupted") from error

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + extra
        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        wrapper.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


class _Current:
    """The voice of the command that runs, for failures that end it."""

    report: Report | None = None


current = _Current()


def _settings(
    command: str,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    endpoint: str | None = None,
    data_host: list[str] | None = None,
    offline: bool = False,
    timeout: float | None = None,
    jobs: int = 16,
    ca_file: str | None = None,
    cache_dir: Path | None = None,
) -> Settings:
    report = Report(command, as_json=as_json, quiet=quiet)
    current.report = report
    if not 1 <= jobs <= 32:
        raise InputError(f"`--jobs` takes a number from 1 to 32, not {jobs}", code="usage", hint="leave it out for 16")
    if timeout is not None and not 0 < timeout <= 1e9:
        raise InputError(f"`--timeout` takes seconds above 0, not {timeout:g}", code="usage", hint="leave it out for no limit")
    # Helm keeps `--debug` for itself and says it so.
    if verbose or os.environ.get("HELM_DEBUG") == "true":
        _log_to_stderr()
    return Settings(report, endpoint, tuple(data_host or ()), offline, timeout, jobs, ca_file, cache_dir, ConnectionSetups(ca_file, jobs))


def _log_to_stderr() -> None:
    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Printable("%(relativeCreated)6.0f ms  %(message)s"))
    logger = logging.getLogger("marfetch")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
