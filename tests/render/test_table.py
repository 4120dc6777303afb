"""Tables and facts: aligned on a terminal, tab-separated in a pipe, and in color only if color is enabled."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest

from marfetch.render.report import Report
from marfetch.render.table import (
    Cell,
    Row,
    age,
    ago,
    command,
    digest,
    facts,
    hanging,
    has_color,
    in_columns,
    laid_out,
    painted,
    piped,
    plain,
    reference,
    since,
    size,
    status,
    version,
)

DIGEST = "sha256:" + "1fa33dc4cc3c" + "0" * 52
HEAD = ("name", "newest", "digest")
ROWS = [("alb-controller", "1.7.12", digest(DIGEST)), ("ingress-azure", "-", Cell("-"))]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def lines(width: int, *, wraps: bool = False) -> list[str]:
    return [plain(line) for line in laid_out(HEAD, ROWS, width, wraps=wraps)]


def test_columns_line_up_under_a_header_in_capitals() -> None:
    assert lines(80) == [
        "NAME            NEWEST  DIGEST",
        "alb-controller  1.7.12  sha256:1fa33dc4cc3c",
        "ingress-azure   -       -",
    ]


def test_a_row_that_is_too_wide_makes_blocks_of_all() -> None:
    assert lines(42) == [
        *("NAME    alb-controller", "NEWEST  1.7.12", "DIGEST  sha256:1fa33dc4cc3c"),
        "",
        *("NAME    ingress-azure", "NEWEST  -", "DIGEST  -"),
    ]


@pytest.mark.parametrize("width", [43, 44, 200])
def test_a_table_that_fits_is_no_block(width: int) -> None:
    assert lines(width)[0].startswith("NAME  ")
    assert max(map(len, lines(width))) <= width


def test_a_sentence_wraps_below_its_column() -> None:
    rows = [("ok", "one two three four five six seven eight nine ten"), ("fault", "short")]
    assert [plain(line) for line in laid_out(("status", "result"), rows, 34, wraps=True)] == [
        "STATUS  RESULT",
        "ok      one two three four five",
        "        six seven eight nine ten",
        "fault   short",
    ]


def test_values_with_one_label_share_columns_and_stack_where_they_do_not_fit() -> None:
    rows: list[Row] = [("root", "a", "CN=x"), ("root", "longer", "CN=y"), ("at", "noon")]
    assert [plain(line) for line in facts(rows, 80)] == ["root  a       CN=x", "root  longer  CN=y", "at    noon"]
    wide = [("root", "a" * 30, "b" * 30)]
    assert [plain(line) for line in facts(wide, 40)] == ["root  " + "a" * 30, "      " + "b" * 30]


def test_values_move_below_a_label_that_leaves_no_room() -> None:
    rows: list[Row] = [("registry location", "US West-Central", "a sentence of words"), ("at", "")]
    assert [plain(line) for line in facts(rows, 30)] == ["registry location", "  US West-Central", "  a sentence of words", "at"]


def test_a_row_without_a_first_cell_belongs_to_the_block_above() -> None:
    rows: list[Row] = [("warning", "tls", "x" * 30), ("", "do", "use it"), ("ok", "dns", "fine")]
    assert [plain(line) for line in laid_out(("status", "check", "result"), rows, 40)] == [
        *("STATUS  warning", "CHECK   tls", "RESULT  " + "x" * 30, "do      use it"),
        "",
        *("STATUS  ok", "CHECK   dns", "RESULT  fine"),
    ]


def test_a_wrapped_command_can_be_pasted() -> None:
    rows: list[Row] = [("oras", command("oras blob fetch --oci-layout b.tar --output c.tgz"))]
    shown = [plain(line) for line in facts(rows, 34)]
    assert shown == ["oras  oras blob fetch \\", "      --oci-layout b.tar \\", "      --output c.tgz"]
    assert plain(piped(rows[0])) == "oras\toras blob fetch --oci-layout b.tar --output c.tgz"


def test_branches_line_up_and_wrap_beside_their_guide() -> None:
    first, second = in_columns([("a.tgz", "10 B", digest(DIGEST)), ("longer.tgz", "", digest(DIGEST))])
    assert (first.short, second.short) == ("a.tgz       10 B  sha256:1fa33dc4cc3c", "longer.tgz        sha256:1fa33dc4cc3c")
    assert second.text == f"longer.tgz  {DIGEST}"
    assert [plain(line) for line in hanging("├── ", "│     ", first, 30)] == ["├── a.tgz       10 B", "│     sha256:1fa33dc4cc3c"]
    wide = Cell("図 図図 図図図")
    assert [plain(line) for line in hanging("", "  ", wide, 9)] == ["図 図図", "  図図図"]


def test_a_combining_character_takes_no_column() -> None:
    shown = [plain(line) for line in laid_out(("a", "b"), [("e\u0301\u20dd", "x"), ("ee", "x")], 80)]
    assert shown == ["A   B", "e\u0301\u20dd   x", "ee  x"]


def test_a_path_is_never_cut() -> None:
    path = "/a/very/long/path/" + "x" * 80
    assert path in [plain(line).split()[-1] for line in facts([("path", path)], 40)]


def test_wide_characters_take_two_columns() -> None:
    shown = [plain(line) for line in laid_out(("name", "kind"), [("図表", "chart"), ("abc", "chart")], 80)]
    assert shown == ["NAME  KIND", "図表  chart", "abc   chart"]


def test_a_short_row_is_filled() -> None:
    assert [plain(line) for line in laid_out(("a", "b", "c"), [("1", "2", "3"), ("-", "x")], 80)] == ["A  B  C", "1  2  3", "-  x"]


def test_a_pipe_gets_whole_texts_between_tabs() -> None:
    assert [plain(piped(row)) for row in ROWS] == [f"alb-controller\t1.7.12\t{DIGEST}", "ingress-azure\t-\t-"]


def test_a_terminal_gets_no_tab_and_no_control_character() -> None:
    out = Terminal()
    Report("x", stdout=out, quiet=True).table(("name", "text"), [("a\tb", "\x1b[2Jc\r")])
    assert re.sub(r"\x1b\[1m|\x1b\[0m", "", out.getvalue()) == "NAME  TEXT\na\\tb  \\x1b[2Jc\\r\n"


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
        ({"TERM": ""}, True, False),
        ({"TERM": "unknown"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": ""}, False, True),
    ],
    ids=str,
)
def test_color_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_color(is_terminal=is_terminal) is expected
    out = Terminal() if is_terminal else io.StringIO()
    Report("x", stdout=out, quiet=True).table(("status", "name"), [(status("ok"), "a")])
    assert ("\x1b" in out.getvalue()) is expected


def test_forced_color_changes_nothing_else_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [(status("failed"), digest(DIGEST)), (status("ok"), "b")]
    before, after = io.StringIO(), io.StringIO()
    Report("x", stdout=before, quiet=True).table(("status", "digest"), rows)
    monkeypatch.setenv("FORCE_COLOR", "1")
    Report("x", stdout=after, quiet=True).table(("status", "digest"), rows)
    assert re.sub(r"\x1b\[[0-9;]*m", "", after.getvalue()) == before.getvalue() == f"failed\t{DIGEST}\nok\tb\n"
    assert after.getvalue() != before.getvalue()


def test_color_repeats_what_the_word_says() -> None:
    assert painted([("ok", status("ok").style), ("  a", "")]) == "\x1b[32mok\x1b[0m  a"
    assert status("something else").style == ""


def test_json_has_neither_table_nor_facts() -> None:
    out = Terminal()
    report = Report("x", as_json=True, stdout=out, quiet=True)
    report.table(("a",), [("b",)])
    report.facts([("a", "b")])
    report.gap()
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2026-11-27T11:59:30Z", "moments"),
        ("2026-11-27T10:00:00Z", "2 hours"),
        ("2026-11-26T12:00:00", "1 day"),
        ("2024-01-01T00:00:00+02:00", "2 years"),
        ("2027-01-01T00:00:00Z", "moments"),
        ("yesterday", "-"),
        (None, "-"),
    ],
)
def test_ages_are_in_words(created: str | None, expected: str) -> None:
    assert age(created, datetime(2026, 11, 27, 12, tzinfo=UTC)) == expected


def test_cells_are_whole_for_pipes_and_short_for_people() -> None:
    assert digest(DIGEST) == Cell(DIGEST, "sha256:1fa33dc4cc3c")
    assert reference(f"mcr.microsoft.com/a:1@{DIGEST}") == Cell(
        f"mcr.microsoft.com/a:1@{DIGEST}", "mcr.microsoft.com/a:1@sha256:1fa33dc4cc3c"
    )
    assert reference("mcr.microsoft.com/a:1").short == "mcr.microsoft.com/a:1"
    assert digest("-").short == "-"
    assert size(10263) == Cell("10263", "10.0 KiB")
    assert since(None) == Cell("-", "-")
    assert version(f"mcr.microsoft.com/a:1@{DIGEST}").short == "1"
    assert version(f"localhost:5000/a@{DIGEST}").short == "sha256:1fa33dc4cc3c"
    assert version("localhost:5000/a").short == "-"
    assert ago("yesterday") == Cell("yesterday", "yesterday")
    assert ago("2000-01-01T00:00:00Z").short.endswith("years ago")


def test_only_digests_are_shortened() -> None:
    paths = f"/x/{DIGEST[7:]} toy.referrers/{DIGEST[7:]}/a.txt"
    assert digest(paths).short == paths
    assert digest(f'["{DIGEST[7:]}"] {DIGEST}').short == '["1fa33dc4cc3c"] sha256:1fa33dc4cc3c'
    assert digest(f"{DIGEST}0").short == f"{DIGEST}0"
