"""Background threads, and what happens without them: the work is done with fewer threads, or in the calling thread.

Limits on processes count threads too (`ulimit -u`, the pids limit of a container). At the limit, Python raises RuntimeError when a thread
is started. That is no reason to fail where threads only save time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from .errors import StorageError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")


def started(target: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a daemon thread; return None if the system allows no further thread."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if resource_error(error) is None:
            raise
        return None
    return thread


def beside(target: Callable[[], object], name: str) -> None:
    """Run a function in a daemon thread, or in the calling thread if the system allows no further thread."""
    if started(target, name) is None:
        target()


_NO_MEMORY = ("failed to map segment from shared object", "annot allocate memory")
"""What the loader of glibc or musl says when there is no memory for a shared library."""


def resource_error(error: BaseException) -> StorageError | None:
    """Return the error to report if the system refused a thread, memory or an open file; None for any other exception."""
    if isinstance(error, ImportError) and str(error).endswith("Too many open files"):  # of a shared library
        return StorageError(
            "too many open files", code="no-resources", hint="raise the limit on open files (`ulimit -n`), or lower `--jobs`"
        )
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and any(one in str(error) for one in _NO_MEMORY)):
        return StorageError("out of memory", code="no-resources", hint="free memory, or lower `--jobs`")
    if isinstance(error, RuntimeError) and str(error).startswith("can't start new thread"):  # CPython has no class for it
        return no_thread()
    return None


def no_thread() -> StorageError:
    """Return the error for a thread that marfetch cannot do without."""
    return StorageError("the system allows no further thread", code="no-resources")


def pool(most: int, *, initializer: Callable[[], object] | None = None) -> ThreadPoolExecutor:
    """Return a thread pool in which the calling thread runs the calls for which no further thread can be started.

    Args:
        most: the maximum number of threads.
        initializer: called first in each thread of the pool.
    """
    from concurrent.futures import Future, ThreadPoolExecutor  # late: it loads much, and most commands have one item

    class Call(Generic[T]):
        """A call that runs once, in the first thread that gets to it."""

        def __init__(self, function: Callable[[], T]) -> None:
            self.future: Future[T] = Future()
            self._function = function
            self._once = threading.Lock()

        def run(self) -> None:
            if not self._once.acquire(blocking=False) or not self.future.set_running_or_notify_cancel():
                return
            try:
                self.future.set_result(self._function())
            except BaseException as error:
                self.future.set_exception(error)
                if not isinstance(error, Exception):
                    raise

    class Pool(ThreadPoolExecutor):
        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
            call = Call(lambda: fn(*args, **kwargs))
            try:
                super().submit(call.run)
            except RuntimeError as error:
                if resource_error(error) is None:
                    raise
                call.run()  # it is in the pool's queue too, but the pool may have no thread at all
            return call.future

    return Pool(most, thread_name_prefix="marfetch", initializer=initializer)
