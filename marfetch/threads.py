"""Start background threads. If the system allows no further thread, do the work in fewer threads or in the calling thread.

Limits on processes count threads too (`ulimit -u`, the pids limit of a container). At the limit, Python raises RuntimeError when a thread
is started. Where threads only save time, the command continues without them.
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
"""Error messages of glibc and musl when there is no memory to load a shared library."""


def resource_error(error: BaseException) -> StorageError | None:
    """Return the error to report if the system refused a thread, memory or an open file; None for any other exception."""
    if isinstance(error, ImportError) and str(error).endswith("Too many open files"):  # raised while loading a shared library
        return StorageError(
            "too many open files", code="no-resources", hint="raise the limit on open files (`ulimit -n`), or lower `--jobs`"
        )
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and any(one in str(error) for one in _NO_MEMORY)):
        return StorageError("out of memory", code="no-resources", hint="free memory, or lower `--jobs`")
    if isinstance(error, RuntimeError) and str(error).startswith("can't start new thread"):  # CPython has no exception class for this
        return no_thread()
    return None


def no_thread() -> StorageError:
    """Return the error for a required thread that cannot be started."""
    return StorageError("the system allows no further thread", code="no-resources")


def pool(most: int, *, initializer: Callable[[], object] | None = None) -> ThreadPoolExecutor:
    """Return a thread pool. If a thread for a call cannot be started, the calling thread runs the call.

    Args:
        most: the maximum number of threads.
        initializer: called first in each thread of the pool.
    """
    from concurrent.futures import Future, ThreadPoolExecutor  # late: a slow import, and most commands have only one item

    class Call(Generic[T]):
        """A call that runs once, in the first thread that starts it."""

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
                call.run()  # the call is also in the pool's queue, but the pool may have no thread
            return call.future

    return Pool(most, thread_name_prefix="marfetch", initializer=initializer)
