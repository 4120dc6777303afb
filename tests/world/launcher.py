"""Run marfetch as `python -m marfetch` does, and record its connections, the bytes that it receives, and its memory.

`world.py` runs this file. The variable `LAUNCH` contains the settings as JSON:

    {"limits": {"IDLE_TIME": 0.5}, "clock": -3600, "record": "FILE"}

`limits` replaces constants of `marfetch.remote.limits`, to shorten waits. `clock` is added to the wall-clock time, in seconds.
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
"""Audit event of the interpreter → the index of the argument with the host or program."""


def main() -> None:
    """Apply the settings in `LAUNCH`, and run marfetch."""
    wanted = json.loads(os.environ.pop("LAUNCH"))
    # marfetch must not import modules from the directory of the tests.
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

    # `marfetch.__main__.program` ends the process with `os._exit`, so write the record before that.
    end, os._exit = os._exit, leave  # type: ignore[assignment]
    socket.SocketIO.readinto = readinto  # type: ignore[method-assign,assignment]
    sys.addaudithook(watch)
    runpy.run_module("marfetch", run_name="__main__", alter_sys=True)


def _shift(seconds: float) -> None:
    """Shift the wall-clock time. Call this before any module has imported the functions of `time`."""
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
    """Return the peak memory of this program in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        # This value includes the memory of the process that forked this one.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
