"""Run the command of `record` or `replay`: its environment, its signals, and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_END_TIME: Final = 10.0
"""Seconds that the command has to end after a signal, before it is killed."""
_INTERRUPT_TIME: Final = 1.0
"""Seconds after Ctrl-C before it is passed on. A terminal sends it to the command too, which must not get it twice."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


def environment(variables: Mapping[str, str], proxy: str, ca_file: str) -> dict[str, str]:
    """Return the environment of a command whose requests go through a proxy."""
    found = {**variables, "NO_PROXY": "", "no_proxy": "", "NODE_USE_ENV_PROXY": "1"}
    found |= {spelled: proxy for name in _PROXIES for spelled in (name, name.lower())}
    return found | dict.fromkeys(_CERTIFICATES, ca_file)


class ChildProcess:
    """A command that runs with the terminal of this process.

    Attributes:
        problem: why the command could not be started; None if it was.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._command = command
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._signal: int | None = None
        self.problem: str | None = None

    def run(self) -> int:
        """Run the command, and return its exit code: 127 for an unknown program, 128 and the number of the signal that ended it.

        SIGTERM and SIGHUP are passed on at once. When the command has ended, a signal takes its usual effect in this process.
        """
        with self._signals():
            try:
                self._process = subprocess.Popen(self._command, env=dict(self._variables))  # noqa: S603 - what the user typed
            except (FileNotFoundError, NotADirectoryError):
                self.problem = f"`{self._command[0]}` is not a program that can be found"
                code = NOT_FOUND
            except (OSError, ValueError) as error:
                self.problem = f"`{self._command[0]}` cannot be run: {(getattr(error, 'strerror', None) or str(error)).lower()}"
                code = NOT_EXECUTABLE
            else:
                if self._signal is not None:  # it came before there was a process to pass it on to
                    self._pass_on(self._signal)
                code = self._wait(self._process)
        if self._signal is not None:
            signal.raise_signal(self._signal)
        return code if code >= 0 else 128 - code

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait()
        except BaseException:  # the time limit of this process
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_TIME)
            process.kill()
            process.wait()
            raise

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Pass signals on, except those that this process was told to ignore, as by `nohup`."""
        numbers = [signal.SIGTERM, *(one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
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
        assert self._process is not None, "there is a process to pass it on to"
        process = self._process

        def send(what: int) -> None:
            with suppress(OSError):
                process.send_signal(what)  # sends nothing to a process that has ended

        if number != signal.SIGINT:
            send(number)
        elif not _is_foreground():
            _later(_INTERRUPT_TIME, lambda: send(number))
        _later(_END_TIME, lambda: send(signal.SIGKILL))


def _is_foreground() -> bool:
    """Return whether a terminal sends Ctrl-C to this process and the command alike."""
    with suppress(OSError, ValueError, AttributeError):
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    return False


def _later(seconds: float, function: object) -> None:
    timer = threading.Timer(seconds, function)  # type: ignore[arg-type]
    timer.daemon = True
    timer.start()
