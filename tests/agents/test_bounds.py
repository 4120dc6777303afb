"""Results for an agent are bounded and have no control characters, and errors say what to do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from marfetch.agents import bounds
from marfetch.agents.bounds import MAX_ITEMS, MAX_REPLY, MAX_STRING, Answer, ask, bounded, failed


def test_small_results_stay_as_they_are() -> None:
    document = {"a": [1, None, True, {"b": "text\n\twith lines"}], "c": 1.5}
    assert bounded(document) == document


def test_control_characters_are_removed() -> None:
    assert bounded({"a\x1b": ["\x1b[31mred\x07", "left\u202eright", "tag\U000e0041"]}) == {"a": ["[31mred", "leftright", "tag"]}


def test_what_is_cut_is_named() -> None:
    found = bounded({"versions": list(range(1000)), "text": "x" * (MAX_STRING + 1)})
    assert found["versions"] == list(range(MAX_ITEMS))
    assert found["text"] == "x" * MAX_STRING + " […]"
    assert found["truncated"] == [
        {"path": "versions", "shown": MAX_ITEMS, "total": 1000, "unit": "items"},
        {"path": "text", "shown": MAX_STRING, "total": MAX_STRING + 1, "unit": "characters"},
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"many": [{"text": "x" * 10_000} for _ in range(200)]},
        {"one": {str(number): "y" * 500 for number in range(5000)}},
        {"deep": [[["z" * 1000] * 50] * 50] * 50},
    ],
    ids=["texts", "keys", "deep"],
)
def test_a_result_is_never_longer_than_the_limit(document: dict[str, Any]) -> None:
    found = bounded(document)
    assert len(json.dumps(found)) <= MAX_REPLY
    assert found["truncated"]


def test_an_error_has_code_message_and_hint() -> None:
    answer = asyncio.run(ask(["versions", "--", "aks/foo:1:2"]))
    assert answer.is_error
    assert (answer.document["code"], answer.document["exitCode"]) == ("reference-invalid", 2)
    assert answer.document["message"]
    assert answer.document["hint"]
    assert failed("a", "b\x1b", None, 1).document == {"code": "a", "message": "b", "hint": None, "exitCode": 1}


def test_an_option_of_an_agent_is_no_option() -> None:
    answer = asyncio.run(ask(["versions", "--", "--help"]))
    assert answer.is_error
    assert answer.document["exitCode"] == 2


@pytest.mark.parametrize("word", ["\0", "a" * 3_000_000], ids=["NUL", "too long"])
def test_what_no_process_takes_is_an_error(word: str) -> None:
    answer = asyncio.run(ask(["versions", "--", word]))
    assert (answer.is_error, answer.document["code"]) == (True, "usage")


def test_a_command_without_a_result_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nprintf '{'\nprintf 'Traceback\\nlast \\033 line\\n' >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert asyncio.run(ask(["versions", "--", "a/b"])) == Answer(
        {
            "code": "internal",
            "message": "the command printed no result: last  line",
            "hint": "run the same command in a terminal",
            "exitCode": 70,
        },
        is_error=True,
    )
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(bounds, "MAX_TIME", 0)
    monkeypatch.setattr(bounds, "_GRACE", 0.1)
    assert asyncio.run(ask(["versions", "--", "a/b"])).document["code"] == "timeout"
    assert bounds.MAX_PARALLEL == 4
