"""Run `marfetch serve` as a process, alone or in a fault test, and send requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

from .command import started, surroundings
from .world import Ended, World, tree


class Got(NamedTuple):
    """A response. The names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code in the error document (distribution-spec, "Error Codes")."""
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json["errors"]
        assert error["message"]
        return str(error["code"])


def ask(port: int, target: str, method: str = "GET", **headers: str) -> Got:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        asking.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = asking.getresponse()
        return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        asking.close()


class Command:
    """`marfetch serve` as a process."""

    def __init__(self, *arguments: object, cwd: Path) -> None:
        self.process = started("serve", *arguments, cwd=cwd, environment=surroundings(HOME=str(cwd)))

    def __enter__(self) -> Command:
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().rstrip("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=30)

    @property
    def port(self) -> int:
        return int(self.first.rpartition(":")[2])

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal, and return the exit code and the remaining output on stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


class Serving:
    """Serves a layout until the end of the context. Then checks output and files, as after any command in a fault test."""

    def __init__(self, world: World, path: Path, *arguments: str) -> None:
        self._world = world
        self._words = ("serve", str(path), "--port", "0", *arguments)
        self._record = world.root.parent / f"record-serve-{len(world.codes)}"
        self.ended: Ended | None = None

    def __enter__(self) -> Self:
        line, environment = self._world.command(*self._words, record=self._record)
        self._before = tree(self._world.root)
        self._err = self._record.with_suffix(".err")
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(line, cwd=self._world.here, env=environment, stdout=subprocess.PIPE, stderr=err)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().decode().strip()
        assert self.first, self._err.read_text()
        return self

    @property
    def port(self) -> int:
        """The port of the registry."""
        return int(self.first.rpartition(":")[2])

    def end(self, number: signal.Signals = signal.SIGTERM, *, within: float = 60) -> Ended:
        """Send a signal, wait for the end of the process, and check its output and files."""
        if self.ended is not None:
            return self.ended
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=within)
        events = [json.loads(event) for event in self._record.read_text().splitlines()]
        self._world.codes.append(self.process.returncode)
        self.ended = Ended(
            words=self._words,
            returncode=self.process.returncode,
            out=f"{self.first}\n{out.decode()}",
            err=self._err.read_text(errors="backslashreplace"),
            files={},
            partial={},
            asked=[],
            contacts=[(event, who) for event, who in events if event not in ("peak", "received")],
            peak=next((size for event, size in events if event == "peak"), 0),
            received=0,
            seconds=time.monotonic() - started,
        )
        self._world.sweep(self.ended, self._before)
        return self.ended

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                assert self.end().returncode == 0, self.ended
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.communicate(timeout=30)

    # -- asking

    def ask(self, target: str, method: str = "GET", **headers: str) -> Got:
        """Send a request on a new connection, and return the response."""
        return ask(self.port, target, method, **headers)

    def connect(self) -> socket.socket:
        """Open a connection without sending anything."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def raw(self, data: bytes) -> bytes:
        """Send these bytes, and return everything that arrives before the connection ends."""
        with self.connect() as asking:
            with contextlib.suppress(ConnectionError):
                asking.sendall(data)
                asking.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := asking.recv(65536):
                    answer += piece
            return answer
