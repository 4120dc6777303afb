"""A process that pulls many batches: `python -m tests.world.soaking REGISTRY DATA_HOST DIRECTORY BATCHES SIZE [anew|again]`.

Before the first batch and after each batch, it prints a JSON line with the number of pulled artifacts, the memory, the open files and the
threads. With `anew`, every batch uses a new session; otherwise one session pulls all. With `again`, it pulls all artifacts a second time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
from pathlib import Path

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.content import Silent
from marfetch.endpoint import Preference
from marfetch.reference import Reference

JOBS = 4


def held() -> dict[str, int]:
    """Return the memory in KiB, the open file descriptors and the threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") >> 10,
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a `Path` would allocate more objects and change the measured memory
        "threads": threading.active_count(),
    }


def main(registry: str, data_host: str, directory: Path, batches: int, size: int, how: str) -> None:
    """Pull the artifacts and print the measurements."""
    options = SessionOptions(
        Preference(option=f"http://{registry}", data_hosts=(data_host,)), cache_dir=directory / "cache", jobs=JOBS, notice=False
    )
    print(json.dumps({"pulled": 0, **held()}), flush=True)
    with contextlib.ExitStack() as stack:
        one = None if how == "anew" else stack.enter_context(Session(options, Silent()))
        for turn in range(2 * batches if how == "again" else batches):
            batch = turn % batches
            wanted = [Wanted(Reference.parse(f"{registry}/soak/a{number}:1")) for number in range(batch * size, (batch + 1) * size)]
            with contextlib.ExitStack() as inner:
                client = one or inner.enter_context(Session(options, Silent()))
                done = pull(client, wanted, PullOptions(directory / "out"))
                if done.failed:
                    raise done.failed[0].error
                del done
            print(json.dumps({"pulled": (turn + 1) * size, **held()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), "".join(sys.argv[6:]))
