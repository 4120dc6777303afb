"""Options that commands share; `shared` adds them to a command and passes them to it as `Settings`."""

from __future__ import annotations

import _thread
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from .. import threads
from ..endpoint import Preference
from ..errors import Error, InputError, Interrupted
from ..render.report import Report
from ..text import printable
from . import early

if TYPE_CHECKING:
    from ..budget import Budget
    from ..client.age import CoolDown
    from ..client.resolve import Wanted
    from ..client.session import Session
    from ..content import Progress
    from ..remote.preconnect import ConnectionSetups

REFERENCE_HELP = "Such as application-lb/charts/alb-controller:1.7.12; also a URL of the registry, or a quoted helm command."

References = Annotated[list[str], typer.Argument(metavar="REF...", help=REFERENCE_HELP)]
OneReference = Annotated[str, typer.Argument(metavar="REF", help=REFERENCE_HELP)]
Version = Annotated[str | None, typer.Option("--version", metavar="RANGE", help="Version or range in Helm's syntax, such as '^1.7'.")]
Devel = Annotated[bool, typer.Option("--devel", help="Include prereleases.")]
Verify = Annotated[bool, typer.Option("--verify", help="Require a signature that the trust policy accepts. [env: MARFETCH_VERIFY=policy]")]
PlatformName = Annotated[str | None, typer.Option("--platform", metavar="OS/ARCH", help="Platform to pick from a multi-platform index.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Skip versions whose manifest is missing.")]
MinAge = Annotated[str | None, typer.Option("--min-age", metavar="DURATION", help="Skip versions younger than this, such as 7d or 12h.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")]
Shard = Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Process part I of N, to split the artifacts among machines.")]
Executor = Annotated[
    str | None, typer.Option("--executor", metavar="dask://HOST:PORT", help="Let Dask workers do the work (needs the `dask` extra).")
]

_Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="NAME|URL", help="Registry: global, china or https://host[:port]. [env: MARFETCH_ENDPOINT]"),
]
_DataHost = Annotated[
    list[str] | None,
    typer.Option("--data-host", metavar="HOST[:PORT]", help="Host that your own registry may redirect to. [env: MARFETCH_DATA_HOSTS]"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Hide progress and notes.")]
_Verbose = Annotated[bool, typer.Option("--verbose", help="Log every request.")]
_Offline = Annotated[bool, typer.Option("--offline", help="Use the cache only; make no requests.")]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Time limit for the whole command.")]
_Jobs = Annotated[int, typer.Option("--jobs", metavar="N", help="Concurrent requests per host, 1 to 32.")]
_CaFile = Annotated[str | None, typer.Option("--ca-file", metavar="PEM", help="CA certificates to trust instead of the system's.")]
_CacheDir = Annotated[Path | None, typer.Option("--cache-dir", metavar="DIR", help="Cache directory. [env: MARFETCH_CACHE_DIR]")]

_STOP_TIME: Final = 1.0
"""Seconds between `--timeout` and the interrupt. Waits and transfers stop by themselves in this time, with a more specific error."""
_LONGEST_TIMER: Final = 1e8
"""Longest timer interval in seconds that every system accepts."""


class Settings(NamedTuple):
    """The values of the shared options, and the report that they configure."""

    report: Report
    endpoint: str | None
    data_hosts: tuple[str, ...]
    offline: bool
    timeout: float | None
    jobs: int
    ca_file: str | None
    cache_dir: Path | None
    connections: ConnectionSetups

    def client(self, *, endpoint: str | None = None, progress: Progress | None = None) -> Session:
        """Return a client with these options.

        Args:
            endpoint: the endpoint in the project file, used if `--endpoint` is not given.
            progress: shows progress; None for the progress display of the report.

        Raises:
            InputError: `usage`.
        """
        from ..client.session import Session, SessionOptions

        preference = self.preference(endpoint)
        if preference.option:
            preference.default()  # report an invalid endpoint before any other error
        options = SessionOptions(preference, self.cache_dir, self.offline, self.timeout, self.jobs, self.ca_file)
        return Session(options, progress or self.report.progress, self.connections)

    def budget(self) -> Budget:
        """Return the time limit for a command that needs no client."""
        from ..budget import Budget

        return Budget(self.timeout)

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        """Interrupt the `with` block one second after `--timeout`, as Ctrl-C would, for example during a long comparison.

        Until then, waits and transfers can stop by themselves. Has no effect outside the main thread.

        Raises:
            RemoteError: `timeout`.
        """
        if self.timeout is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not self.report.has_result:
                is_over = True
                raise KeyboardInterrupt

        try:
            with _alarm(min(self.timeout, _LONGEST_TIMER) + _STOP_TIME, end):
                yield
        except (Exception, KeyboardInterrupt) as error:
            if not is_over or isinstance(error, Error):
                raise
            raise self.budget().exceeded() from error

    def request(self, text: str, version: str | None = None, *, devel: bool = False, cool_down: CoolDown | None = None) -> Wanted:
        """Parse a REF argument together with `--version` and `--devel`.

        Args:
            cool_down: the minimum age of the version, from `--min-age`.

        Raises:
            InputError: the text is not a reference, or the version in it differs from `--version`.
        """
        from ..client.resolve import Wanted
        from ..reference import Pasted

        pasted = Pasted.parse(text)
        if pasted.version is not None and version is not None and pasted.version != version:
            raise InputError(
                f"the pasted command asks for version `{pasted.version}`, but `--version` is `{version}`",
                code="usage",
                hint="give the version only once",
                text=text[:300],
            )
        if pasted.taken_from is not None:
            taken = f"`{pasted.reference}`" + (f" in the range `{pasted.version}`" if pasted.version else "")
            self.report.note(f"using {taken} from the command `{pasted.taken_from[:200]}`")
        return Wanted(pasted.reference, pasted.version if version is None else version, devel or pasted.devel, cool_down=cool_down)

    def preference(self, endpoint: str | None = None) -> Preference:
        return Preference.from_environment(os.environ, self.endpoint or endpoint, self.data_hosts)


def shared(
    *, network: bool = True, local: bool = False, limited: bool = True, as_json: bool = True
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the shared options to a command, which gets their values as `Settings` in its first parameter.

    `describe` of the result gives it the parameters that typer reads. That takes longer than to define it, so only the command that runs
    is described.

    Args:
        network: add the options for endpoints, timeouts and the cache; otherwise only those for output.
        local: for a command without requests, add these options except `--endpoint` and `--data-host`, so that scripts can pass them too.
        limited: end the command after `--timeout`; otherwise the command applies the limit itself.
        as_json: add `--json`. A command whose stdout belongs to another program cannot have it.
    """
    output: dict[str, tuple[Any, Any]] = {"quiet": (_Quiet, False), "verbose": (_Verbose, False)}
    if as_json:
        output = {"as_json": (_Json, False), **output}
    about_network: dict[str, tuple[Any, Any]] = {
        "endpoint": (_Endpoint, None),
        "data_host": (_DataHost, None),
        "offline": (_Offline, False),
        "timeout": (Timeout, None),
        "jobs": (_Jobs, 16),
        "ca_file": (_CaFile, None),
        "cache_dir": (_CacheDir, None),
    }
    if local:
        about_network = {name: option for name, option in about_network.items() if name not in ("endpoint", "data_host")}
    added = {**about_network, **output} if network or local else output

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        def wrapper(**values: Any) -> int:
            settings = _settings(command.__name__.replace("_", " "), **{option: values.pop(option) for option in added})
            current.report = settings.report
            try:
                with settings.time_limit() if limited else nullcontext():
                    return command(settings, **values)
            except KeyboardInterrupt as error:  # typer would turn it into its own exit code
                raise Interrupted("interrupted", code="interrupted") from error

        def describe() -> None:
            own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
            parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for name, (annotation, default) in added.items()
            ]
            wrapper.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
            wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}

        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        wrapper.describe = describe  # type: ignore[attr-defined]
        return wrapper

    return decorate


class _Current:
    """Holds the report of the running command, so that `__main__` can print a failure with it."""

    report: Report | None = None


current = _Current()


def _settings(
    command: str,
    *,
    quiet: bool,
    verbose: bool,
    as_json: bool = False,
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
        raise InputError(f"`--jobs` takes a number from 1 to 32, not {jobs}", code="usage", hint="omit it for the default, 16")
    check_timeout(timeout)
    # Helm consumes `--debug` itself and passes it on in this variable.
    if verbose or os.environ.get("HELM_DEBUG") == "true":
        _log_to_stderr()
    return Settings(report, endpoint, tuple(data_host or ()), offline, timeout, jobs, ca_file, cache_dir, early.setups(ca_file, jobs))


@contextmanager
def _alarm(seconds: float, ring: Callable[[], None]) -> Iterator[None]:
    """Call `ring` in the main thread after a time, with an interval timer, or with a background thread on Windows."""
    if hasattr(signal, "setitimer"):
        previous = signal.signal(signal.SIGALRM, lambda *_: ring())
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        return
    is_due, guard, is_past = False, threading.Lock(), threading.Event()

    def interrupt() -> None:
        nonlocal is_due
        is_past.wait(min(seconds, threading.TIMEOUT_MAX))
        with guard:
            if not is_past.is_set():
                is_due = True
                _thread.interrupt_main()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if is_due:
            ring()
        elif callable(before):
            before(number, frame)  # Ctrl-C

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        threads.started(interrupt, "marfetch-limit")
        yield
    finally:
        try:
            with guard:
                is_past.set()
        finally:
            signal.signal(signal.SIGINT, before)


def check_timeout(timeout: float | None) -> None:
    """Check the value of `--timeout`.

    Raises:
        InputError: `usage`.
    """
    if timeout is not None and not 0 < timeout <= 1e9:
        raise InputError(f"`--timeout` takes a number of seconds above 0, not {timeout:g}", code="usage", hint="omit it for no limit")


def _log_to_stderr() -> None:
    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Printable("%(relativeCreated)6.0f ms  %(message)s"))
    logger = logging.getLogger("marfetch")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
