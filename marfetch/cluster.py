"""Executors that spread work over machines. They give out texts and get texts back, and may do a thing twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from .errors import InputError, RemoteError


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
        from distributed import Client
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
