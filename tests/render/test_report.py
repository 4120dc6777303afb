"""The voice: lines, tables and JSON, on terminals, in logs and into closed streams."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.versions import Details, History, VersionEntry
from marfetch.codes import CODES
from marfetch.constraint import read_version
from marfetch.content import Silent
from marfetch.errors import Error, RemoteError
from marfetch.files import storage_error
from marfetch.reference import Reference
from marfetch.render.pull import listed
from marfetch.render.report import Bar, PlainProgress, Report, error_json
from marfetch.text import human_size, printable

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\t\x00\x7f\x9b31m\u202eok\u2066\u200b\u2028\u2029\ufeff\udc80\U000e0041"


HARMLESS = "ü 汉字 ‘x’ 👍 €"


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\t\n" for character in text)


class Said:
    """A report and what it wrote."""

    def __init__(self, **options: Any) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.report = Report("toy", stdout=self.out, stderr=self.err, **options)

    @property
    def both(self) -> str:
        return self.out.getvalue() + self.err.getvalue()


@pytest.mark.parametrize("character", EVIL, ids=ascii)
def test_what_could_steer_a_terminal_is_written_as_its_escape(character: str) -> None:
    shown = printable(f"a{character}b")
    if character.isascii() and character.isprintable():
        assert shown == f"a{character}b"
    else:
        assert shown == f"a{character.encode('unicode_escape', 'backslashreplace').decode()}b"
        assert shown.isascii()
        assert shown.isprintable()


def test_letters_of_all_languages_stay() -> None:
    assert printable(HARMLESS) == HARMLESS


def told(text: str) -> History:
    """Versions of which everything that can be a text is this one."""
    version = read_version("1.0.0")
    assert version is not None
    known = Details(digest=text, media_type=text, created=text, app_version=text)
    failed = Details(error=Error(text, code="usage", hint=text))
    return History(Reference("aks/toy"), (VersionEntry(version, (text,), known), VersionEntry(version, (), failed)), (text,))


VOICES: dict[str, Callable[[Report], None]] = {
    "a line": lambda report: report.line("x", EVIL),
    "a note": lambda report: report.note(EVIL),
    "a warning": lambda report: report.warn(EVIL),
    "an error": lambda report: report.error(Error(EVIL, code="usage", hint=EVIL, msedge_ref=EVIL, correlation_id=EVIL), about=EVIL),
    "a failure": lambda report: report.failed(Error(EVIL, code="usage", hint=EVIL, msedge_ref=EVIL, text=EVIL)),
    "a note of a transfer": lambda report: report.progress.note(EVIL),
    "a warning of a transfer": lambda report: report.progress.warn(EVIL),
    "a file that cannot be written": lambda report: report.failed(storage_error(OSError(errno.EACCES, "no"), Path(f"/x/{EVIL}"))),
    "versions": lambda report: print(listed(report, told(EVIL), show_all=True, details=True)),
    "data": lambda report: report.data({"x": EVIL, EVIL: [EVIL]}),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "JSON"])
@pytest.mark.parametrize("name", VOICES)
def test_no_voice_lets_control_characters_through(name: str, as_json: bool) -> None:
    said = Said(as_json=as_json)
    VOICES[name](said.report)
    silent = {"a line": True, "data": False}.get(name)
    assert ("owned" in said.both) is (as_json is not silent)
    assert is_harmless(said.both)
    if as_json:
        assert all(json.loads(line)["command"] == "toy" for line in said.out.getvalue().splitlines())


def test_a_column_never_becomes_two_and_a_line_never_two_lines() -> None:
    said = Said()
    said.report.line("a\tb", "c\nd", "e\x85f\u2028g")
    assert said.out.getvalue() == "a\\tb\tc\\nd\te\\x85f\\u2028g\n"


def test_on_a_terminal_bars_and_lines_above_them_are_harmless_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Bar, "_PATIENCE", -1.0)
    bar = Bar(lambda _: None, lambda _: None)
    transfer = bar.begin(EVIL, 10)
    assert not bar.above("nobody sees this")
    transfer.held(5)
    assert bar.above("[red]as it is[/red]")
    assert bar.show().tasks[0].description == printable(EVIL)
    transfer.end()
    assert not bar.above("nor this")
    shown = capsys.readouterr()
    assert "[red]as it is[/red]" in shown.err
    assert shown.out == ""


def test_quiet_keeps_what_must_be_known() -> None:
    said = Said(quiet=True)
    said.report.note("note")
    said.report.progress.note("note")
    said.report.progress.warn("careful")
    said.report.warn("mind")
    said.report.line("data")
    said.report.error(Error("it failed", code="usage", hint="try this"))
    assert said.err.getvalue() == "warning: careful\nwarning: mind\nerror: it failed\nhint: try this\n"
    assert said.out.getvalue() == "data\n"


def test_json_is_one_object_with_what_was_done_nevertheless() -> None:
    said = Said(as_json=True)
    said.report.line("no", "line")
    said.report.failed(RemoteError("it failed", code="cut", url="https://x/", status=502), {"files": [1]})
    assert json.loads(said.out.getvalue()) == {
        "schema": 1,
        "command": "toy",
        "ok": False,
        "error": {"code": "cut", "message": "it failed", "hint": CODES["cut"].do, "exitCode": 7, "url": "https://x/", "status": 502},
        "data": {"files": [1]},
    }
    assert said.err.getvalue() == f"error: it failed\nhint: {CODES['cut'].do}\n"


def test_facts_of_an_error_never_hide_its_code() -> None:
    error = Error("it failed", code="usage")
    error.context.update(code="other", message="other", hint="other")
    assert [error_json(error)[name] for name in ("code", "message")] == ["usage", "it failed"]


def test_the_id_that_support_asks_for_is_shown() -> None:
    said = Said()
    said.report.error(RemoteError("it failed", code="cut", hint="again", msedge_ref="Ref A: 1", correlation_id="c-1"), about="aks/foo:1")
    assert said.err.getvalue().splitlines() == [
        "error: aks/foo:1: it failed",
        "X-Msedge-Ref: Ref A: 1",
        "X-Ms-Correlation-Request-Id: c-1",
        "hint: again",
    ]


def test_a_stream_without_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    Report("toy", stdout=io.TextIOWrapper(raw, encoding="ascii")).line("ü€")
    assert raw.getvalue() == b"\\xfc\\u20ac\n"


def test_a_closed_stream_for_messages_loses_them_and_nothing_else() -> None:
    said = Said()
    said.err.close()
    said.report.warn("mind")
    said.report.failed(Error("it failed", code="usage"))
    said.report.line("data")
    assert said.out.getvalue() == "data\n"


def test_progress_in_a_log_is_a_line_now_and_then() -> None:
    time, notes = [0.0], list[str]()
    transfer = PlainProgress(notes.append, notes.append, now=lambda: time[0]).begin("toy", 4 << 20)
    for moment, held in ((1.0, 1), (5.0, 1 << 20), (6.0, 2 << 20), (9.9, 3 << 20), (10.0, 4 << 20)):
        time[0] = moment
        transfer.held(held)
    transfer.end()
    assert notes == ["toy: 1.0 MiB of 4.0 MiB (25 %)", "toy: 4.0 MiB of 4.0 MiB (100 %)"]


def test_progress_of_nothing_is_no_trouble() -> None:
    time, notes = [0.0], list[str]()
    transfer = PlainProgress(notes.append, notes.append, now=lambda: time[0]).begin("toy", 0)
    time[0] = 60.0
    transfer.held(0)
    assert notes == ["toy: 0 B of 0 B (0 %)"]
    silent = Silent()
    silent.begin("toy", 1).held(1)
    silent.warn("nobody listens")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99 * 1024, "99.0 KiB"),
        (384 * 1024, "384 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_a_size_for_people(size: int, text: str) -> None:
    assert human_size(size) == text
