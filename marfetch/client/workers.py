"""Distribute work to Dask workers on other machines, in batches of jobs that are sent and returned as JSON. A batch may run twice.

A worker runs the jobs of a batch in parallel, because the jobs mostly wait for the network. The worker opens the resources that it
needs, and keeps them open for the next batch.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Generic, TypeAlias, TypeVar

from .. import __version__
from ..codes import CODES
from ..document import Json
from ..errors import Error, InputError, RateLimitedError, RemoteError

T = TypeVar("T")
Answer: TypeAlias = "Json | Error"

_TOGETHER: Final = 16
"""Maximum number of jobs per batch."""
_LEAST: Final = 8
"""Minimum number of batches if there are enough jobs, so that several workers have work."""
_KEPT: Final = 4
"""Maximum number of commands whose resources a worker keeps open. One scheduler may serve several commands at once."""


@contextmanager
def spread(address: str) -> Iterator[Executor]:
    """Connect to the workers of a Dask scheduler for the duration of the context.

    Args:
        address: `dask://HOST:PORT`.

    Raises:
        InputError: `usage`: the address is invalid, or the extra `dask` is not installed.
        RemoteError: `unreachable`.
    """
    match = re.fullmatch(r"dask://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", address)
    if match is None:
        raise InputError(f"`--executor` takes `dask://HOST:PORT`, not `{address[:100]}`", code="usage", text=address[:200])
    try:
        from distributed import Client  # late: an optional dependency, needed only for `--executor`
    except ImportError as error:
        raise InputError(
            "`--executor dask://…` needs the extra `dask`, which is not installed",
            code="usage",
            hint="run: pip install 'marfetch[dask]', also on the workers",
        ) from error
    try:
        client = Client(f"tcp://{match[1]}:{match[2]}", timeout=10, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RemoteError(f"cannot reach the scheduler `{address}`", code="unreachable", host=match[1]) from error
    with client:
        # The scheduler runs the tasks of a dead worker again, so a task may run twice and is not pure.
        yield client.get_executor(pure=False, retries=3)


def ask(
    executor: Executor, work: Callable[[str], str], shared: str, jobs: Sequence[Json], done: Callable[[int], object] = lambda _: None
) -> list[Answer]:
    """Run jobs on the workers in batches, and wait for all results.

    Args:
        work: runs one batch (see `part`) and returns a JSON array with one result per job.
        shared: data that all jobs need.
        done: called with the number of jobs of each finished batch.

    Returns:
        One result per job, in order: its JSON value, or a RemoteError `unreachable` if its worker was lost too often.
    """
    size = max(1, min(_TOGETHER, len(jobs) // _LEAST))
    parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    # Use `submit`: not every executor supports `map`.
    futures = [executor.submit(work, json.dumps({"shared": shared, "jobs": part})) for part in parts]
    answers: list[Answer] = []
    for future, part in zip(futures, parts, strict=True):
        try:
            answers += json.loads(future.result())
        except Exception as failure:  # executors raise different exceptions for a lost worker
            answers += [_lost(failure)] * len(part)
        done(len(part))
    return answers


def _lost(failure: Exception) -> RemoteError:
    if isinstance(failure, (ImportError, AttributeError)) and "marfetch" in str(failure):  # the worker's marfetch lacks the function
        return RemoteError(
            f"a worker has another version of marfetch: {str(failure)[:300]}",
            code="unreachable",
            hint=f"install marfetch {__version__} on the workers",
        )
    return RemoteError(
        f"the worker was lost: {type(failure).__name__}: {str(failure)[:300]}",
        code="unreachable",
        hint="run the command again; completed work is not repeated",
    )


def part(text: str) -> tuple[str, list[Any]]:
    """Decode a batch into its shared data and its jobs."""
    batch = json.loads(text)
    return batch["shared"], batch["jobs"]


class WorkerCache(Generic[T]):
    """A worker's cache of open resources: one per command, shared by all threads of the worker.

    Args:
        open_it: opens the resource for a key, and registers its cleanup on the stack.
    """

    def __init__(self, open_it: Callable[[str, ExitStack], T]) -> None:
        self._open = open_it
        self._guard = threading.Lock()
        self._things: dict[str, tuple[T, ExitStack]] = {}

    def get(self, key: str) -> T:
        """Return the resource for a key, which is the argument of `open_it`.

        Raises:
            Error: the resource cannot be opened.
        """
        with self._guard:
            if key not in self._things:
                with ExitStack() as stack:
                    thing = self._open(key, stack)
                    self._things[key] = thing, stack.pop_all()
                while len(self._things) > _KEPT:
                    self._things.pop(next(iter(self._things)))[1].close()
            return self._things[key][0]


def error_to_json(error: Error) -> dict[str, object]:
    """Convert an error to JSON values, from which `error_from_json` restores it on another machine."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "context": error.context}


def error_from_json(data: Mapping[str, Any]) -> Error:
    """Restore an error from another machine."""
    kinds = {kind.__name__: kind for kind in _descendants(Error)}
    kind = kinds[CODES[data["code"]].kind]
    options = {} if kind is RateLimitedError else {"code": data["code"]}
    return kind(data["message"], hint=data["hint"], **options, **data["context"])


def _descendants(kind: type[Error]) -> Iterator[type[Error]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _descendants(one)
