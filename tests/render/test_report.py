"""`Report`: lines, tables and JSON, on terminals, in logs and with closed streams."""

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
from marfetch.errors import Error, RemoteError
from marfetch.files import storage_error
from marfetch.reference import Reference
from marfetch.render.progress import Bar
from marfetch.render.pull import print_versions
from marfetch.render.report import Report, error_json
from marfetch.text import human_size, printable

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\t\x00\x7f\x9b31m\u202eok\u2066\u200b\u2028\u2029\ufeff\udc80\U000e0041"


HARMLESS = "ü 汉字 ‘x’ 👍 €"


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\t\n" for character in text)


class Output:
    """A report and its output."""

    def __init__(self, **options: Any) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.report = Report("toy", stdout=self.out, stderr=self.err, **options)

    @property
    def both(self) -> str:
        return self.out.getvalue() + self.err.getvalue()


@pytest.mark.parametrize("character", EVIL, ids=ascii)
def test_control_characters_are_escaped(character: str) -> None:
    shown = printable(f"a{character}b")
    if character.isascii() and character.isprintable():
        assert shown == f"a{character}b"
    else:
        assert shown == f"a{character.encode('unicode_escape', 'backslashreplace').decode()}b"
        assert shown.isascii()
        assert shown.isprintable()


def test_letters_of_all_languages_are_kept() -> None:
    assert printable(HARMLESS) == HARMLESS


def history_of(text: str) -> History:
    """Return a version history with this text in every text field."""
    version = read_version("1.0.0")
    assert version is not None
    known = Details(digest=text, media_type=text, created=text, app_version=text)
    failed = Details(error=Error(text, code="usage", hint=text))
    return History(Reference("aks/toy"), (VersionEntry(version, (text,), known), VersionEntry(version, (), failed)), (text,))


OUTPUTS: dict[str, Callable[[Report], None]] = {
    "a line": lambda report: report.line(EVIL),
    "a note": lambda report: report.note(EVIL),
    "a warning": lambda report: report.warn(EVIL),
    "an error": lambda report: report.error(Error(EVIL, code="usage", hint=EVIL, msedge_ref=EVIL, correlation_id=EVIL), about=EVIL),
    "a failure": lambda report: report.failed(Error(EVIL, code="usage", hint=EVIL, msedge_ref=EVIL, text=EVIL)),
    "a note of a transfer": lambda report: report.progress.note(EVIL),
    "a warning of a transfer": lambda report: report.progress.warn(EVIL),
    "a file that cannot be written": lambda report: report.failed(storage_error(OSError(errno.EACCES, "no"), Path(f"/x/{EVIL}"))),
    "versions": lambda report: print(print_versions(report, history_of(EVIL), show_all=True, details=True)),
    "data": lambda report: report.data({"x": EVIL, EVIL: [EVIL]}),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "JSON"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_no_output_has_control_characters(name: str, as_json: bool) -> None:
    output = Output(as_json=as_json)
    OUTPUTS[name](output.report)
    silent = {"a line": True, "data": False}.get(name)
    assert ("owned" in output.both) is (as_json is not silent)
    assert is_harmless(output.both)
    if as_json:
        assert all(json.loads(line)["command"] == "toy" for line in output.out.getvalue().splitlines())


def test_tabs_and_line_breaks_in_a_column_are_escaped() -> None:
    output = Output()
    output.report.table(("x", "y", "z"), [("a\tb", "c\nd", "e\x85f\u2028g")])
    assert output.out.getvalue() == "a\\tb\tc\\nd\te\\x85f\\u2028g\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "xterm")])
def test_bars_are_escapes_too(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    assert isinstance(Report("toy", stderr=stderr).progress, Bar) is (value == "xterm")


def test_quiet_keeps_warnings_errors_and_data() -> None:
    output = Output(quiet=True)
    output.report.note("note")
    output.report.progress.note("note")
    output.report.progress.warn("careful")
    output.report.warn("mind")
    output.report.line("data")
    output.report.error(Error("it failed", code="usage", hint="try this"))
    assert output.err.getvalue() == "warning: careful\nwarning: mind\nerror: it failed\nhint: try this\n"
    assert output.out.getvalue() == "data\n"


def test_json_of_a_failure_has_the_results_so_far() -> None:
    output = Output(as_json=True)
    output.report.line("no line")
    output.report.failed(RemoteError("it failed", code="cut", url="https://x/", status=502), {"files": [1]})
    assert json.loads(output.out.getvalue()) == {
        "schema": 1,
        "command": "toy",
        "ok": False,
        "error": {"code": "cut", "message": "it failed", "hint": CODES["cut"].do, "exitCode": 7, "url": "https://x/", "status": 502},
        "data": {"files": [1]},
    }
    assert output.err.getvalue() == f"error: it failed\nhint: {CODES['cut'].do}\n"


def test_context_keys_of_an_error_do_not_hide_its_code() -> None:
    error = Error("it failed", code="usage")
    error.context.update(code="other", message="other", hint="other")
    assert [error_json(error)[name] for name in ("code", "message")] == ["usage", "it failed"]


def test_the_reference_id_for_support_is_shown() -> None:
    output = Output()
    output.report.error(RemoteError("it failed", code="cut", hint="again", msedge_ref="Ref A: 1", correlation_id="c-1"), about="aks/foo:1")
    assert output.err.getvalue().splitlines() == [
        "error: aks/foo:1: it failed",
        "X-Msedge-Ref: Ref A: 1",
        "X-Ms-Correlation-Request-Id: c-1",
        "hint: again",
    ]


def test_a_stream_without_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    Report("toy", stdout=io.TextIOWrapper(raw, encoding="ascii")).line("ü€")
    assert raw.getvalue() == b"\\xfc\\u20ac\n"


def test_a_closed_stderr_loses_only_messages() -> None:
    output = Output()
    output.err.close()
    output.report.warn("mind")
    output.report.failed(Error("it failed", code="usage"))
    output.report.line("data")
    assert output.out.getvalue() == "data\n"


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
def test_human_sizes(size: int, text: str) -> None:
    assert human_size(size) == text
