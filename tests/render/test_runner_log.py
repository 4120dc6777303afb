"""CI runners execute logging commands in the log of a job. Text from a registry or file must never contain one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TextIO, cast

import pytest

from marfetch.library import facade
from marfetch.render.markdown import summarize
from marfetch.render.report import Report, RunnerLog, guarded
from marfetch.text import json_without_commands, without_commands

from ..world.archives import file, targz
from ..world.charts import add_chart
from ..world.command import Run, surroundings
from ..world.paths import ROOT
from ..world.registry import Registry

COMMANDS = (
    "##vso[task.setvariable variable=x]y",
    "##VSO[task.prependpath]/tmp",
    "##[group]x",
    "###[error]x",
    "::set-output name=a::b",
    "::add-mask::a",
    " \t::group::a",
    "\u00a0\u3000::group::a",
)
HIDDEN = (
    "#\u034f#vso[task.complete]",
    "##v\ufe00so[task.complete]",
    "#\x1b[0m#[group]",
    "#\x1b#[group]",
    "##\u200b[group]",
    ":\u115f:add-mask::a",
    "\ufeff::add-mask::a",
    "\x1b[31m::add-mask::a",
)
"""Texts that become logging commands if invisible characters and escape sequences are removed."""
HARMLESS = ("## heading", "### `a` [b]", "a::b", "http://[::1]:5000", "#1 [x]", "x ::group::y", "##vso", "sha256:00")


def commands(text: str) -> list[str]:
    """Return the lines that a runner would execute."""
    gone = str.maketrans("", "", "\u034f\ufe00\u200b\u115f\ufeff")
    lines = text.replace("\x1b[0m", "").replace("\x1b[31m", "").replace("\x1b", "").translate(gone).splitlines()
    return [line for line in lines if "##vso[" in line.lower() or "##[" in line or line.lstrip().startswith("::")]


@pytest.mark.parametrize("text", [*COMMANDS, *HIDDEN], ids=ascii)
@pytest.mark.parametrize("before", ["", "a\n", "a\r", "a\r\n", "a\n\n"], ids=ascii)
def test_commands_are_broken_up_on_every_line(text: str, before: str) -> None:
    assert commands(before + text)
    broken = without_commands(before + text)
    assert commands(broken) == []
    assert broken.replace(" ", "") == (before + text).replace(" ", ""), "only spaces may be added"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_command_stays(text: str) -> None:
    assert without_commands(text) == text


@pytest.mark.parametrize("text", [*COMMANDS, *HIDDEN, *HARMLESS, "a\n::x::", "#", "####[a]", ":::::"], ids=ascii)
def test_json_stays_valid_and_equal(text: str) -> None:
    document = {text: [text, {"a": f'"{text}'}]}
    written = json_without_commands(json.dumps(document))
    assert json.loads(written) == document
    assert commands(written.replace('"', "\n").replace("\\n", "\n")) == []


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_command_in_several_writes_is_broken_up(size: int) -> None:
    stream = io.StringIO()
    log = RunnerLog(stream)
    text = "".join(f"{one}\n" for one in COMMANDS) + "::last::"
    for start in range(0, len(text), size):
        log.write(text[start : start + size])
    assert "last" not in stream.getvalue()
    log.flush()
    assert commands(stream.getvalue()) == []
    assert stream.getvalue() == without_commands(text)


def test_bytes_pass_in_order() -> None:
    raw = io.BytesIO()
    log = RunnerLog(io.TextIOWrapper(raw, encoding="utf-8"))
    log.writelines(["##[a]"])
    log.buffer.write(b"##[b]")
    log.flush()
    assert raw.getvalue() == b"# #[a]##[b]"
    assert (log.encoding, log.isatty()) == ("utf-8", False)


@pytest.mark.parametrize("variable", ["TF_BUILD", "GITHUB_ACTIONS", None])
def test_output_is_guarded_only_in_a_job(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, "true")
    text, as_json = io.StringIO(), io.StringIO()
    Report("toy", stdout=guarded(text)).table(("a",), [("", "::x::", "##[y]")])
    Report("toy", stdout=guarded(as_json), as_json=True).data("##[y]")
    assert bool(commands(text.getvalue() + as_json.getvalue())) is (variable is None)
    assert json.loads(as_json.getvalue())["data"] == "##[y]"


def test_job_summaries_have_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    summarize(Report("sync"), "::title::", [(one, one, one) for one in COMMANDS], [])
    assert commands(summary.read_text()) == []


def test_progress_of_the_library_has_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_BUILD", "True")
    told: list[str] = []
    error = io.StringIO()
    monkeypatch.setattr(sys, "stderr", cast("TextIO", error))
    facade._progress(told.append).note("##vso[x]")
    facade._progress(wanted=True).warn("##vso[x]")
    assert commands("\n".join([*told, error.getvalue()])) == []
    assert len(told) == 1
    assert "vso" in error.getvalue()


# -- the program


EVIL = "##vso[task.prependpath]/tmp/evil"


@pytest.fixture
def job(mar: Registry, run: Run) -> Run:
    """Return a function that runs marfetch in a CI job, with a registry whose texts contain logging commands."""
    notes = {f"org.opencontainers.image.{name}": value for name, value in (("title", "toy"), ("description", EVIL), ("version", "::x::"))}
    metadata = f"apiVersion: v2\nname: toy\nversion: VERSION\ndescription: '{EVIL}'\nappVersion: '::stop-commands::x'\n"
    for version, values in (("1.0.0", "a: '::group::'\n"), ("1.1.0", f"::b: |-\n  1\n  {EVIL}\n  ::x::\n")):
        files = {"Chart.yaml": metadata.replace("VERSION", version), "values.yaml": values, f"templates/{EVIL.replace('/', '-')}": version}
        package = targz(*(file(f"toy/{name}", text.encode()) for name, text in files.items()))
        config = json.dumps({"name": "toy", "description": EVIL, "appVersion": "::x::"}).encode()
        add_chart(mar, "evil/toy", version, package, annotations=notes, config=config)
    mar.add_artifact("evil/title", "1", (EVIL.replace("/", "-"), b"x"))
    mar.add_artifact("evil/refused", "1", (f"../{EVIL}", b"x"))
    return lambda *words, **options: run(*words, environment={"TF_BUILD": "True", "GITHUB_ACTIONS": "true"}, **options)


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "evil/toy:1.0.0"),
        ("pull", "evil/title:1"),
        ("pull", "evil/refused:1"),
        ("pull", "evil/toy:::x"),
        ("diff", "evil/toy:1.0.0", "evil/toy:1.1.0"),
        ("diff", "evil/toy:1.0.0", "evil/toy:1.1.0", "--markdown"),
        ("versions", "evil/toy", "--details"),
        ("index", "evil/toy"),
        ("search", EVIL),
        ("pull", "evil/toy", "--verbose", "--untar"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_nothing_from_outside_steers_the_runner(job: Run, words: tuple[str, ...]) -> None:
    for more in ([], ["--json"]):
        if "--markdown" in words and more:
            continue
        done = job(*words, *more)
        assert done.stdout + done.stderr
        assert commands(done.stdout + done.stderr) == []
        if more:
            assert commands(done.stdout.replace('"', "\n")) == []
            json.loads(done.stdout)


def test_the_index_for_helm_keeps_its_values(job: Run, run: Run) -> None:
    there, here = job("index", "evil/toy"), run("index", "evil/toy")
    assert EVIL in here.stdout
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_texts_of_a_server_do_not_control_the_runner(mar: Registry, job: Run) -> None:
    mar.on("manifest").answers(403, f"<b>{EVIL}</b>\r::x::\n::y::", X_Msedge_Ref=EVIL)
    done = job("pull", "evil/toy:1.0.0")
    assert done.returncode == 7
    assert "vso[task" in done.stderr
    assert commands(done.stderr) == []


def test_the_getter_keeps_bytes_and_breaks_up_messages(mar: Registry, job: Run, run: Run) -> None:
    address = f"mar://{mar.host}/evil/toy/index.yaml"
    assert EVIL in run("getter", "", "", "", address).stdout
    assert job("getter", "", "", "", address).stdout == run("getter", "", "", "", address).stdout, (
        "the index is data for Helm, so it stays unchanged"
    )
    failed = job("getter", "", "", "", f"mar://{mar.host}/evil/{EVIL}")
    assert failed.returncode
    assert commands(failed.stderr) == []


def test_a_traceback_does_not_steer_the_runner() -> None:
    code = f"from marfetch.render.report import guard_output\nguard_output()\nraise ValueError('a\\n::x::\\n{EVIL}')"
    ran = [sys.executable, "-c", code]
    done = subprocess.run(ran, env=surroundings(TF_BUILD="True"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "vso[task" in done.stderr
    assert commands(done.stderr.replace("    raise", "")) == []
