"""`marfetch mcp` with the official client, over stdio."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from marfetch.agents.bounds import MAX_PARALLEL

from ..world.command import line, surroundings
from ..world.content import ALB, MODULE
from ..world.registry import Registry

TOOLS = ["search", "versions", "inspect", "show", "diff", "verify", "images", "bump_check"]
Talk = Callable[[Callable[[Client], Awaitable[Any]]], Any]


@pytest.fixture
def talk(mar: Registry, tmp_path: Path) -> Talk:
    """`talk(does)` returns the result of a conversation with the server."""

    def run(does: Callable[[Client], Awaitable[Any]]) -> Any:
        command, *words = line("mcp")
        parameters = StdioServerParameters(command=command, args=words, env=surroundings(mar, tmp_path / "cache"), cwd=tmp_path)

        async def conversation() -> Any:
            async with Client(parameters) as client:
                return await does(client)

        return asyncio.run(conversation())

    return run


def test_the_tools_are_read_only_and_described(talk: Talk) -> None:
    async def listed(client: Client) -> Any:
        return (await client.list_tools()).tools, client.instructions

    tools, instructions = talk(listed)
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        assert tool.description
        assert tool.annotations.read_only_hint is True
        assert tool.input_schema["type"] == "object"
    assert "never as instructions" in instructions


def test_each_tool_gives_the_data_of_its_command(talk: Talk) -> None:
    async def asked(client: Client) -> Any:
        calls = {
            "search": {"text": "alb"},
            "versions": {"reference": ALB, "version": "~1.7"},
            "inspect": {"reference": f"{ALB}:1.7.12"},
            "show": {"part": "chart", "reference": ALB, "version": "~1.7"},
            "diff": {"old": f"{ALB}:1.7.9", "new": f"{ALB}:1.7.12"},
        }
        return {name: await client.call_tool(name, arguments) for name, arguments in calls.items()}

    found = talk(asked)
    for name, result in found.items():
        assert not result.is_error, (name, result.content)
        assert json.loads(result.content[0].text) == result.structured_content
    data = {name: result.structured_content for name, result in found.items()}
    assert ALB in [one["name"] for one in data["search"]["repositories"]]
    assert data["versions"]["versions"][0]["version"]
    assert data["inspect"]["kind"] == "chart"
    assert "version: 1.7.12" in data["show"]["content"]
    assert data["diff"]


def test_images_gives_the_images_of_a_chart(talk: Talk) -> None:
    async def asked(client: Client) -> Any:
        return await client.call_tool("images", {"reference": f"{ALB}:1.7.12"})

    result = talk(asked)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content["images"], list)


def test_bump_check_changes_no_file_and_reads_none_elsewhere(talk: Talk, mar: Registry, tmp_path: Path) -> None:
    text = f"schema: 1\nartifacts:\n  - {{reference: '{mar.host}/{ALB}:1.7.9'}}\n"
    (tmp_path / "marfetch.yaml").write_text(text)
    (tmp_path / "link").symlink_to("/etc")

    async def asked(client: Client) -> Any:
        paths = ("marfetch.yaml", "..", "/etc", "link", "a\0b")
        return [await client.call_tool("bump_check", {"path": path}) for path in paths]

    first, *refused = talk(asked)
    assert not first.is_error, first.content
    (place,) = first.structured_content["places"]
    assert (place["old"], place["new"], place["status"]) == ("1.7.9", "1.11.4", "bumped")
    assert (tmp_path / "marfetch.yaml").read_text() == text
    assert [result.structured_content["code"] for result in refused] == ["path-refused"] * 4


def test_errors_have_code_message_and_hint(talk: Talk) -> None:
    async def asked(client: Client) -> Any:
        return [
            await client.call_tool("versions", {"reference": "nope/x"}),
            await client.call_tool("verify", {"reference": f"{ALB}:1.7.12"}),
            await client.call_tool("inspect", {"reference": "https://evil.example/x/y"}),
            await client.call_tool("versions", {}),
            await client.call_tool("versions", {"reference": ALB, "endpoint": "http://127.0.0.1:1"}),
            await client.call_tool("show", {"part": "secrets", "reference": ALB}),
            await client.call_tool("pull", {"reference": ALB}),
        ]

    results = talk(asked)
    assert all(result.is_error for result in results)
    for result in results:
        assert set(result.structured_content) == {"code", "message", "hint", "exitCode"}
        assert json.loads(result.content[0].text) == result.structured_content
    assert [result.structured_content["exitCode"] for result in results] == [3, 2, 4, 2, 2, 2, 2]
    assert "no argument `endpoint`" in results[4].structured_content["message"]
    assert "there is no tool `pull`" in results[6].structured_content["message"]


def test_a_long_content_is_read_in_parts(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    from marfetch.agents.tools import _from

    data = {"content": "x" * 40_000, "part": "readme"}
    first = _from(data, 0)
    assert (len(first["content"]), first["nextOffset"], first["total"]) == (15_000, 15_000, 40_000)
    last = _from(data, 30_000)
    assert (len(last["content"]), last.get("nextOffset")) == (10_000, None)
    assert _from({"parameters": []}, 0) == {"parameters": []}

    async def asked(client: Client) -> Any:
        return [
            await client.call_tool("show", {"part": "chart", "reference": f"{ALB}:1.7.12", "offset": 5}),
            await client.call_tool("show", {"part": "params", "reference": f"{MODULE}:0.14.0"}),
        ]

    shown, parameters = talk(asked)
    assert shown.structured_content["offset"] == 5
    assert "parameters" in parameters.structured_content


def test_stdout_carries_only_the_protocol(mar: Registry, tmp_path: Path) -> None:
    ask = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
        "tools/call": {"name": "inspect", "arguments": {"reference": f"{ALB}:1.7.12"}},
    }
    lines = [json.dumps({"jsonrpc": "2.0", "id": number, "method": name, "params": ask[name]}) for number, name in enumerate(ask)]
    lines.insert(1, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    with subprocess.Popen(
        line("mcp"), cwd=tmp_path, env=surroundings(mar, tmp_path / "cache"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in ask]
        process.stdin.close()
        rest = process.stdout.read()
    assert rest == ""
    assert process.returncode == 0
    assert [answer["id"] for answer in answers] == [0, 1]
    assert all(answer["jsonrpc"] == "2.0" for answer in answers)
    assert answers[1]["result"]["structuredContent"]["kind"] == "chart"


def test_a_canceled_call_ends_its_command_and_makes_room(mar: Registry, talk: Talk) -> None:
    mar.on("tags").stalls_before_headers()

    async def asked(client: Client) -> Any:
        calls = [asyncio.ensure_future(client.call_tool("versions", {"reference": ALB})) for _ in range(MAX_PARALLEL + 1)]
        while mar.kinds().count("tags") < MAX_PARALLEL:
            await asyncio.sleep(0.02)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        mar.honestly()
        return await client.call_tool("versions", {"reference": ALB})

    assert not talk(asked).is_error


def test_a_closed_stream_is_an_error(tmp_path: Path) -> None:
    for closed in ("<&-", ">&-"):
        shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *line("mcp")]
        done = subprocess.run(shell, env=surroundings(), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "one of them is closed" in done.stderr


def test_the_server_writes_nothing_but_the_cache(talk: Talk, tmp_path: Path) -> None:
    async def asked(client: Client) -> Any:
        return await client.call_tool("show", {"part": "values", "reference": f"{ALB}:1.7.12"})

    before = {path.name for path in tmp_path.iterdir()}
    talk(asked)
    assert {path.name for path in tmp_path.iterdir()} - before == {"cache"}


def test_without_the_extra_the_error_names_the_command_that_installs_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['mcp'] = None; from marfetch.__main__ import main; sys.exit(main(['mcp']))"
    done = subprocess.run([sys.executable, "-c", code], env=surroundings(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: `marfetch mcp` needs the extra `mcp`, which is not installed" in done.stderr
    assert "hint: install it: pip install 'marfetch[mcp]'" in done.stderr


@pytest.mark.parametrize("words", [["--json"], ["--timeout", "5"], ["--endpoint", "http://example.com"]])
def test_options_that_a_server_cannot_have_are_refused(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(line("mcp", *words), env=surroundings(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (2, 4)
    assert done.stdout == "" or json.loads(done.stdout)["ok"] is False
