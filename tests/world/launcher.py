"""Starts marfetch as `python -m marfetch` does, in a process that writes down whom it connects to, how much it reads and how much memory it takes.

Run by `world.py`, as a file. The variable `LAUNCH` says what to do, as JSON:

    {"limits": {"IDLE_TIME": 0.5}, "clock": -3600, "record": "FILE"}

`limits` are figures of `marfetch.remote.limits`, for waits that are too long for a test; `clock` is added to the time of day, in seconds.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import runpy
import socket
import sys
import time
from pathlib import Path

_CONTACTS = {"socket.connect": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "subprocess.Popen": 0}
"""Event of the interpreter → which of its arguments says who is asked."""


def main() -> None:
    """Go."""
    wanted = json.loads(os.environ.pop("LAUNCH"))
    # A directory of tests is no place to import from.
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    record = os.open(wanted["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if wanted.get("limits"):
        from marfetch.remote import limits

        for name, value in wanted["limits"].items():
            assert hasattr(limits, name), name
            setattr(limits, name, value)
    if wanted.get("clock"):
        _shift(wanted["clock"])

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in _CONTACTS:
            os.write(record, json.dumps([event, str(arguments[_CONTACTS[event]])]).encode() + b"\n")

    received: list[int] = []
    take = socket.SocketIO.readinto

    def readinto(self: socket.SocketIO, buffer: bytearray) -> int | None:
        size = take(self, buffer)
        received.append(size or 0)
        return size

    def leave(code: int) -> None:
        for event, number in (("peak", _peak()), ("received", sum(received))):
            os.write(record, json.dumps([event, number]).encode() + b"\n")
        end(code)

    # The process ends by `os._exit` (`marfetch.__main__.program`).
    end, os._exit = os._exit, leave  # type: ignore[assignment]
    socket.SocketIO.readinto = readinto  # type: ignore[method-assign,assignment]
    sys.addaudithook(watch)
    runpy.run_module("marfetch", run_name="__main__", alter_sys=True)


def _shift(seconds: float) -> None:
    """Let the time of day be another one, before anybody has taken hold of it."""
    real = time.time
    time.time = lambda: real() + seconds

    class Like(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, Shifted.__base__ or object)

    class Shifted(dt.datetime, metaclass=Like):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.fromtimestamp(time.time(), tz)

    dt.datetime = Shifted  # type: ignore[misc]


def _peak() -> int:
    """The most memory that this program has held at a time, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        # Here the process that forked this one counts in.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
