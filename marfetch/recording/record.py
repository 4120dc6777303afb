"""Record the requests of a command to an endpoint, and answer them from a recording."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from .. import threads
from ..bundle.recorded import RECORDING_FILE, Recording
from ..client.session import Session
from ..endpoint import Endpoint, HostPattern
from ..errors import Error, InputError, LockError
from ..files import storage_error
from ..reference import Host
from ..remote.certificates import TrustedCertificates, trusted_pem
from .authority import ThrowAwayAuthority
from .child import ChildProcess, environment
from .seen import Observations, names_endpoint

if TYPE_CHECKING:
    from .answering import Answers
    from .written import RecordedArchive

_BACKLOG: Final = 1024
_SWITCH_INTERVAL: Final = 0.0005
"""Maximum seconds that the proxy waits for a thread that imports. Python's own 0.005 would add up while the command waits."""
_SHOWN: Final = 5
"""Maximum number of missing requests that an error names."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a command that was recorded or replayed.

    Attributes:
        code: the exit code of the command.
        problem: why the command could not be started; None if it was.
        archive: the recording that was written; None for a replay, or if it could not be written.
        error: what went wrong besides the command itself; None if nothing did.
    """

    code: int
    problem: str | None
    endpoint: Endpoint
    seen: Observations
    archive: RecordedArchive | None = None
    error: Error | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the command, or of the error if the command itself succeeded."""
        return self.code or (self.error.exit_code if self.error is not None else 0)


def record(client: Session, endpoint: Endpoint, command: Sequence[str], output: Path) -> Ended:
    """Run a command, and write the content that it requests from an endpoint to an archive.

    Args:
        output: the path of the archive. It is written when the command has ended, whatever its exit code.

    Raises:
        InputError: `usage`: the trusted certificates cannot be read.
        StorageError: `no-resources`, `file-unusable`, `disk-full`. A failed request raises nothing: it is in the result.
    """
    seen, recording = Observations(), Recording(endpoint)
    with _Prepared(endpoint, client.options.ca_file) as prepared, ChildProcess(command, prepared.variables) as child:
        if child.problem is None:
            from .upstream import Upstream  # late: a slow import, and the command starts meanwhile

            answers = Upstream(client, recording, seen)
            try:
                with prepared.serving(answers, lambda _: True):
                    if not client.options.offline:  # imports oras-py while the command opens its first connection
                        threads.started(lambda: client.connect(endpoint), "marfetch-connect")
                    from .written import write_recording  # late: loads while the command runs

                    code = child.wait()
                    if code == 0:
                        answers.finish(lambda: child.is_told_to_stop)
            finally:
                answers.end()
        else:
            code = child.wait()
    if child.problem is not None:
        return Ended(code, child.problem, endpoint, seen)
    try:
        archive = write_recording(client, recording, output)
    except Error as error:
        return Ended(code, None, endpoint, seen, None, seen.worst or error)
    except OSError as error:
        return Ended(code, None, endpoint, seen, None, seen.worst or storage_error(error, output))
    return Ended(code, None, endpoint, seen, archive, seen.worst)


def replay(path: Path, command: Sequence[str], allowed: Sequence[str], ca_file: str | None, budget: Callable[[], None]) -> Ended:
    """Run a command, and answer its requests to the recorded endpoint from a recording.

    Args:
        path: the recording.
        allowed: other hosts that the command may connect to, as `HOST[:PORT]` or `*.HOST[:PORT]`.
        budget: called while the recording is checked; it may raise to cancel.

    Raises:
        InputError: `not-a-recording`; `usage`: a host of the endpoint is allowed, or an invalid one.
        IntegrityError: `bundle-broken`, `malformed`: the recording was changed.
        Error: as for `record`.
    """
    from ..bundle.check import check_bundle, refuse_broken  # late: recording needs no check
    from ..bundle.format import opened  # late: see above

    with opened(path) as found:
        if found.recording is None:
            raise InputError(f"`{path}` is not a recording: it has no `{RECORDING_FILE}`", code="not-a-recording", path=str(path))
        endpoint, seen = found.recording.endpoint, Observations()
        allows = _allowing(endpoint, allowed)
        refuse_broken(found, check_bundle(found, budget=budget, reads_blobs=False))  # each blob is verified before it is first sent
        with _Prepared(endpoint, ca_file) as prepared, ChildProcess(command, prepared.variables) as child:
            from .replayed import Replayed  # late: a slow import, while the command is already running

            with prepared.serving(Replayed(found, found.recording, seen), allows):
                code = child.wait()
    return Ended(code, child.problem, endpoint, seen, None, seen.worst or _missing(path, seen))


def _missing(path: Path, seen: Observations) -> Error | None:
    if not seen.missing:
        return None
    named = list(seen.missing)
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    shown = ", ".join(f"`{one}`" for one in named[:_SHOWN])
    return LockError(f"not in the recording `{path}`: {shown}{more}", code="not-recorded", path=str(path), missing=named)


def _allowing(endpoint: Endpoint, allowed: Sequence[str]) -> Callable[[Host], bool]:
    """Return a function that decides whether the command may connect to another host."""
    patterns: list[HostPattern] = []
    for text in allowed:
        try:
            pattern = HostPattern.parse(text)
        except Error as error:
            raise InputError(f"`--allow` takes `HOST[:PORT]` or `*.HOST[:PORT]`, not `{text[:200]}`", code="usage") from error
        own = any(pattern.host.name == one.host.name for one in endpoint.data_hosts)
        if own or names_endpoint(endpoint, pattern.host):
            raise InputError(
                f"`--allow {text}` names a host of the endpoint `{endpoint.name}`, which is answered from the recording",
                code="usage",
                hint="remove this `--allow`, or record again to get newer answers",
            )
        patterns.append(pattern)

    def allows(host: Host) -> bool:
        return any(
            one.host.port in (None, host.port) and (host.name.endswith(f".{one.host.name}") if one.wildcard else host.name == one.host.name)
            for one in patterns
        )

    return allows


class _Prepared:
    """What a command needs before it starts: a port that connections can wait at, and a file with trusted certificates.

    Attributes:
        variables: the environment of the command.
    """

    variables: dict[str, str]

    def __init__(self, endpoint: Endpoint, ca_file: str | None) -> None:
        self._endpoint = endpoint
        self._ca_file = ca_file
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        roots = trusted_pem(self._ca_file, os.environ)
        self._authority = ThrowAwayAuthority(self._endpoint)
        with ExitStack() as stack:
            path = stack.enter_context(_trust_file(roots + self._authority.pem))
            self._listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG))
            self.variables = environment(os.environ, f"http://127.0.0.1:{self._listening.getsockname()[1]}", path)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def serving(self, answers: Answers, allows: Callable[[Host], bool]) -> Iterator[None]:
        """Answer requests for the duration of the context."""
        from ..serve.server import Serving  # late: a slow import, while the command is already running
        from .forward import Dialer  # late: a slow import
        from .proxy import LoopbackProxy  # late: a slow import

        dialer = Dialer(lambda: TrustedCertificates(self._ca_file).context())
        registry, data = answers.app(), answers.data_app()
        proxy = LoopbackProxy(self._endpoint, self._authority, registry, data, allows=allows, dialer=dialer, seen=answers.seen)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        with Serving(servers=[(proxy, self._listening)]):
            yield


@contextmanager
def _trust_file(pem: bytes) -> Iterator[str]:
    """Keep certificates in a file that everyone may read, for the duration of the context: the command may run as another user."""
    number, path = tempfile.mkstemp(prefix="marfetch-ca-", suffix=".pem")
    with ExitStack() as stack:
        stack.callback(Path(path).unlink, missing_ok=True)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(pem)
            Path(path).chmod(0o644)
        except OSError as error:
            raise storage_error(error, path) from error
        if os.name == "posix":
            stack.enter_context(_removed_when_killed(path))
        yield path


@contextmanager
def _removed_when_killed(path: str) -> Iterator[None]:
    """Have a shell remove a file when this process is killed: it waits for the end of a pipe that only this process can write to."""
    words = ["/bin/sh", "-c", 'read -r _; rm -f -- "$0"', path]
    quiet = subprocess.DEVNULL
    try:
        shell = subprocess.Popen(  # noqa: S603 - a fixed program
            words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env={"PATH": os.defpath}, start_new_session=True
        )
    except OSError:  # without it, only a killed marfetch leaves the file
        yield
        return
    try:
        yield
    finally:
        shell.terminate()  # Windows has no SIGKILL
        shell.communicate()
