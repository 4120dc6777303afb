"""Work that is spread over machines: parts of it go out as texts, answers come as texts, and a part may be done twice.

A part holds several jobs, which its worker does side by side: they wait for the network, not for a processor. What a worker needs it
opens itself, and keeps open for its next part.
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
"""Jobs of one part, at most."""
_LEAST: Final = 8
"""Parts that there are at least, where there are as many jobs, so that several workers have something to do."""
_KEPT: Final = 4
"""Commands whose things a worker keeps open; a scheduler may have work of several at once."""


@contextmanager
def spread(address: str) -> Iterator[Executor]:
    """The workers of a Dask scheduler, for as long as the context lasts.

    Args:
        address: `dask://HOST:PORT`.

    Raises:
        InputError: `usage`: the address is none, or the extra `dask` is not installed.
        RemoteError: `unreachable`.
    """
    match = re.fullmatch(r"dask://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", address)
    if match is None:
        raise InputError(f"`--executor` takes `dask://HOST:PORT`, not `{address[:100]}`", code="usage", text=address[:200])
    try:
        from distributed import Client  # late: an extra, only where work is spread over machines
    except ImportError as error:
        raise InputError(
            "`--executor dask://…` needs the extra `dask`, which is not installed",
            code="usage",
            hint="pip install 'marfetch[dask]', on the workers too",
        ) from error
    try:
        client = Client(f"tcp://{match[1]}:{match[2]}", timeout=10, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RemoteError(f"the scheduler `{address}` cannot be reached", code="unreachable", host=match[1]) from error
    with client:
        # A worker that dies takes its tasks with it: they are given out again, so they are not pure, and may run twice.
        yield client.get_executor(pure=False, retries=3)


def ask(executor: Executor, work: Callable[[str], str], shared: str, jobs: Sequence[Json]) -> list[Answer]:
    """Give out jobs in parts, and wait for what is said to them.

    Args:
        work: does a part; see `part`. Its answer is the JSON array of what it says to each job.
        shared: what all jobs need.

    Returns:
        One for each job, in their order: what was said, or a RemoteError, `unreachable`, where a worker was lost with its work once too
        often.
    """
    size = max(1, min(_TOGETHER, len(jobs) // _LEAST))
    parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    # One by one: not every executor takes its work from an iterator.
    futures = [executor.submit(work, json.dumps({"shared": shared, "jobs": part})) for part in parts]
    answers: list[Answer] = []
    for future, part in zip(futures, parts, strict=True):
        try:
            answers += json.loads(future.result())
        except Exception as failure:  # whatever the executor makes of the end of a worker
            answers += [_lost(failure)] * len(part)
    return answers


def _lost(failure: Exception) -> RemoteError:
    if isinstance(failure, (ImportError, AttributeError)) and "marfetch" in str(failure):  # the work names a function that is not there
        return RemoteError(
            f"a worker has another version of marfetch: {str(failure)[:300]}",
            code="unreachable",
            hint=f"install marfetch {__version__} on the workers",
        )
    return RemoteError(
        f"the worker was lost: {type(failure).__name__}: {str(failure)[:300]}",
        code="unreachable",
        hint="run it again: what is there already is not done again",
    )


def part(text: str) -> tuple[str, list[Any]]:
    """What all jobs of a part need, and the jobs."""
    asked = json.loads(text)
    return asked["shared"], asked["jobs"]


class WorkerCache(Generic[T]):
    """What a worker opened for a command and keeps for its next parts; all of its threads share it.

    Args:
        open_it: makes it, with what is to be closed in the end on the stack.
    """

    def __init__(self, open_it: Callable[[str, ExitStack], T]) -> None:
        self._open = open_it
        self._guard = threading.Lock()
        self._things: dict[str, tuple[T, ExitStack]] = {}

    def get(self, key: str) -> T:
        """The thing of this key: whatever `open_it` needs, as a text.

        Raises:
            Error: it cannot be opened.
        """
        with self._guard:
            if key not in self._things:
                with ExitStack() as stack:
                    thing = self._open(key, stack)
                    self._things[key] = thing, stack.pop_all()
                while len(self._things) > _KEPT:
                    self._things.pop(next(iter(self._things)))[1].close()
            return self._things[key][0]


class Quiet:
    """A worker tells nobody how far it is."""

    def begin(self, name: str, total: int) -> Quiet:  # noqa: ARG002 - the protocol's
        return self

    def held(self, size: int) -> None:
        pass

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


def error_to_json(error: Error) -> dict[str, object]:
    """An error as JSON values, for another machine; `error_from_json` makes it anew there."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "context": error.context}


def error_from_json(said: Mapping[str, Any]) -> Error:
    """The error that another machine has told of."""
    kinds = {kind.__name__: kind for kind in _descendants(Error)}
    kind = kinds[CODES[said["code"]].kind]
    options = {} if kind is RateLimitedError else {"code": said["code"]}
    return kind(said["message"], hint=said["hint"], **options, **said["context"])


def _descendants(kind: type[Error]) -> Iterator[type[Error]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _descendants(one)
