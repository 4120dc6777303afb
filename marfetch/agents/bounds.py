"""Run a command of marfetch for an agent, and bound and clean its JSON.

Each call runs in a separate process. Its output cannot mix with the protocol on stdout, and it can be ended.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..document import Json, parse_json
from ..errors import Error
from ..text import without_controls

MAX_REPLY: Final = 60_000
"""Maximum length of a result as JSON, in characters: some 20,000 tokens."""
MAX_STRING: Final = 30_000
"""Maximum length of a text in a result, in characters."""
MAX_ITEMS: Final = 200
"""Maximum number of items in a list of a result."""
MAX_OUTPUT: Final = 64 << 20
"""Maximum size of a command's JSON in bytes."""
MAX_TIME: Final = 100
"""Time limit of a command in seconds."""
MAX_PARALLEL: Final = 4
"""Maximum number of commands that run at the same time; more calls wait."""
_GRACE: Final = 20.0  # seconds until a command that ignores its time limit is killed
_LEAST: Final = 20
"""Minimum length to which texts are shortened, in characters; also the maximum number of entries in `truncated`."""
_LONGEST_KEY: Final = 200

_calls = asyncio.Semaphore(MAX_PARALLEL)


class Answer(NamedTuple):
    """The result of a tool.

    Attributes:
        is_error: whether `document` has `code`, `message`, `hint` and `exitCode` instead of a result.
    """

    document: dict[str, Any]
    is_error: bool


async def ask(words: Sequence[str], select: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Answer:
    """Run a command line with `--json`, and return its bounded result. If the call is canceled, kill the command.

    Args:
        words: the command line. Text from an agent follows `--` or is in `--option=value`, so it is never taken for an option.
        select: changes the data of a success before it is bounded.
    """
    line = [sys.executable, "-P", "-m", "marfetch", words[0], "--json", "--quiet", f"--timeout={MAX_TIME}", *words[1:]]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    async with _calls:
        try:
            process = await asyncio.create_subprocess_exec(*line, stdin=nothing, stdout=pipe, stderr=pipe)
        except (OSError, ValueError) as error:
            return failed("usage", f"the command cannot be run: {error}", "check the arguments", 2)
        try:
            output, problems = await asyncio.wait_for(process.communicate(), MAX_TIME + _GRACE)
        except TimeoutError:
            return failed("timeout", f"the command took more than {MAX_TIME} seconds", "ask for less, or try again", 7)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    document = _parsed(output)
    if document is None:
        last = problems.decode("utf-8", "replace").strip().splitlines()[-1:]
        return failed("internal", f"the command printed no result: {''.join(last)[:300]}", "run the same command in a terminal", 70)
    if not document.get("ok"):
        reported = document.get("error")
        named = reported if isinstance(reported, dict) else {}
        return failed(str(named.get("code")), str(named.get("message")), named.get("hint"), process.returncode or 0)
    data = document.get("data")
    found: dict[str, Any] = data if isinstance(data, dict) else {"data": data}
    return Answer(bounded(select(found) if select is not None else found), is_error=False)


def failed(code: str, message: str, hint: object, exit_code: int) -> Answer:
    """Return an answer with an error."""
    document = {"code": code, "message": message, "hint": hint, "exitCode": exit_code}
    return Answer(_cleaned(document, MAX_STRING, MAX_ITEMS, "", []), is_error=True)


def _parsed(output: bytes) -> dict[str, Json] | None:
    if len(output) > MAX_OUTPUT:
        return None
    try:
        document = parse_json(output, "the result")
    except Error:
        return None
    return document if isinstance(document, dict) else None


def bounded(document: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without control characters and within the limits. The key `truncated` lists what was shortened."""
    texts, items = MAX_STRING, MAX_ITEMS
    while True:
        cut: list[dict[str, Any]] = []
        found: dict[str, Any] = _cleaned(document, texts, items, "", cut)
        if cut:
            found["truncated"] = cut[:_LEAST]
        length = len(json.dumps(found))
        if length <= MAX_REPLY:
            return found
        if texts == _LEAST and items == 1:
            return {"truncated": [{"path": "", "shown": 0, "total": length, "unit": "characters"}]}
        texts, items = max(_LEAST, texts // 2), max(1, items // 2)


def _cleaned(value: Any, texts: int, items: int, path: str, cut: list[dict[str, Any]]) -> Any:
    """Return a cleaned and shortened copy of a value, and add an entry to `cut` for each part that was shortened."""
    if isinstance(value, str):
        text = without_controls(value)
        if len(text) > texts:
            cut.append({"path": path, "shown": texts, "total": len(text), "unit": "characters"})
            return f"{text[:texts]} […]"
        return text
    if isinstance(value, dict):
        named = [
            (without_controls(str(key))[:_LONGEST_KEY], each) for key, each in _first(list(value.items()), max(items, _LEAST), path, cut)
        ]
        return {key: _cleaned(each, texts, items, f"{path}.{key}" if path else key, cut) for key, each in named}
    if isinstance(value, (list, tuple)):
        return [_cleaned(each, texts, items, f"{path}[{number}]", cut) for number, each in enumerate(_first(value, items, path, cut))]
    return value


def _first(found: Sequence[Any], items: int, path: str, cut: list[dict[str, Any]]) -> Sequence[Any]:
    if len(found) > items:
        cut.append({"path": path, "shown": items, "total": len(found), "unit": "items"})
    return found[:items]
