"""Run the command of `record` or `replay`: its environment, its signals, and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_END_TIME: Final = 10.0
"""Seconds that the command has to end after a signal, before it is killed."""
_INTERRUPT_TIME: Final = 1.0
"""Seconds after SIGINT until it is passed on. For Ctrl-C, a terminal sends it to the command too, which must not get it twice."""
_OTHERS: Final = [number for name in ("SIGINT", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
"""Signals that end a command unless they are ignored. Windows has no SIGHUP."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


def environment(variables: Mapping[str, str], proxy: str, ca_file: str) -> dict[str, str]:
    """Return the environment of a command whose requests go through a proxy."""
    found = {**variables, "NO_PROXY": "", "no_proxy": "", "NODE_USE_ENV_PROXY": "1"}
    found |= {spelled: proxy for name in _PROXIES for spelled in (name, name.lower())}
    return found | dict.fromkeys(_CERTIFICATES, ca_file)


class ChildProcess:
    """A command that runs with the terminal of this process, in a context.

    SIGTERM and SIGHUP are passed on at once. When the command has ended, a signal takes its usual effect in this process.

    Attributes:
        problem: why the command could not be started; None if it was.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._command = command
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._signal: int | None = None
        self._before: dict[int, Any] = {}
        self._code = NOT_FOUND
        self.problem: str | None = None

    def __enter__(self) -> Self:
        """Start the command."""
        if threading.current_thread() is threading.main_thread():
            # Keep ignoring signals that this process already ignores, for example because of `nohup`.
            others = [one for one in _OTHERS if signal.getsignal(one) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, *others)}
        try:
            self._process = subprocess.Popen(self._command, env=dict(self._variables))  # noqa: S603 - what the user typed
        except (FileNotFoundError, NotADirectoryError):
            self.problem = f"`{self._command[0]}` is not on PATH or does not exist"
        except (OSError, ValueError) as error:
            self.problem = f"`{self._command[0]}` cannot be run: {(getattr(error, 'strerror', None) or str(error)).lower()}"
            self._code = NOT_EXECUTABLE
        except BaseException:
            self._restore()
            raise
        if self._signal is not None:  # the signal came before the command was started
            self._pass_on(self._signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process = self._process
        if process is not None and process.returncode is None:  # the timeout has passed, or the proxy has failed
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_TIME)
            process.kill()
            process.wait()
        self._restore()
        if self._signal is not None and kind is None:
            signal.raise_signal(self._signal)

    @property
    def is_told_to_stop(self) -> bool:
        """Whether this process got a signal that ends it."""
        return self._signal is not None

    def wait(self) -> int:
        """Return the exit code of the command: 127 for an unknown program, 128 plus the number of the signal that ended it."""
        if self._process is None:
            return self._code
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        again, self._signal = self._signal is not None, number if self._signal is None else self._signal
        if self._process is None:
            return
        if again:
            self._process.kill()
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        assert self._process is not None, "the command was started"
        process = self._process

        def send() -> None:
            with suppress(OSError):
                process.send_signal(number)  # sends nothing to a process that has ended

        if number != signal.SIGINT:
            send()
        elif not _is_foreground():
            _later(_INTERRUPT_TIME, send)
        _later(_END_TIME, process.kill)


def _is_foreground() -> bool:
    """Return whether a terminal sends Ctrl-C to both this process and the command."""
    if not hasattr(os, "tcgetpgrp"):
        return True  # Windows: a console sends it to all, and no program can send it to one
    with suppress(OSError, ValueError, AttributeError):
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    return False


def _later(seconds: float, function: object) -> None:
    timer = threading.Timer(seconds, function)  # type: ignore[arg-type]
    timer.daemon = True
    timer.start()
