"""The output of every command that prints a list: on pseudo terminals, in pipes, and in color."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from marfetch.bump import decide
from marfetch.bundle import inventory, signatures, targets
from marfetch.bundle.check import Problem
from marfetch.diff.changes import Sort
from marfetch.doctor.findings import Status
from marfetch.project import locking, prune, sync
from marfetch.render import table
from marfetch.verify import verdict

from ..world.bundles import members, rewritten
from ..world.command import in_pipe, in_window
from ..world.content import ALB, IMAGE, MODULE
from ..world.registry import Registry
from ..world.signed import AT, Signed
from ..world.signing import Authority

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
WINDOWS = ((80, 24), (100, 40), (40, 24))
WANTED = f"""schema: 1
artifacts:
  - {{reference: {ALB}, version: ~1.7, name: alb, destination: charts}}
  - {{reference: {MODULE}, version: ~0.9, destination: modules}}
  - {{reference: signed/thing, version: 1.0.0, destination: things}}
"""

TABLES: dict[str, tuple[str, ...]] = {
    "search": ("search", "alb"),
    "search --kind": ("search", "--kind", "chart"),
    "versions": ("versions", ALB, "--all"),
    "versions --details": ("versions", MODULE, "--details"),
    "pull": ("pull", f"{ALB}:1.7.12", f"{MODULE}:0.9.1"),
    "plan": ("plan", f"{ALB}:1.7.9", MODULE),
    "lock": ("lock",),
    "sync": ("sync",),
    "sync --dry-run": ("sync", "--dry-run"),
    "outdated": ("outdated",),
    "verify -f": ("verify", "-f", "marfetch.yaml", "--at", AT),
    "bundle create": ("bundle", "create", "-o", "new.tar"),
    "bundle inspect": ("bundle", "inspect", "b.tar"),
    "bundle verify": ("bundle", "verify", "broken.tar"),
    "bundle diff": ("bundle", "diff", "b.tar", "other.tar"),
    "bundle load": ("bundle", "load", "b.tar", "--to", "./mirror"),
    "endpoints": ("endpoints",),
    "doctor": ("doctor",),
}
"""Commands that print columns under a header, or blocks."""
FACTS = {
    "verify": ("verify", "signed/thing:1.0.0", "--at", AT),
    "cache info": ("cache", "info"),
    "trust show": ("trust", "show"),
    "trust check": ("trust", "check"),
}
"""Commands that print values behind labels."""
TREES = {
    "inspect": ("inspect", f"{ALB}:1.7.12"),
    "inspect an index": ("inspect", f"{IMAGE}:latest"),
    "referrers": ("referrers", f"{IMAGE}:latest"),
    "diff": ("diff", f"{ALB}:1.7.9", f"{ALB}:1.7.12"),
}
CHANGING = ("doctor", "cache info")
"""Commands whose output contains times or sizes that change with each run."""
LISTS = TABLES | FACTS | TREES


def prepare(*commands: tuple[str, ...]) -> None:
    for words in commands:
        assert in_pipe(words)[0] == 0, words


@pytest.fixture
def here(mar: Registry, signed: Signed, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> Path:
    """Create a directory with a locked project and three bundles, and set the environment variables for the test registry."""
    signed.sign()
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    (place / "marfetch.yaml").write_text(WANTED.replace("~0.9", "0.9.0"))
    prepare(("lock",), ("bundle", "create", "-o", "other.tar"))
    (place / "marfetch.yaml").write_text(WANTED)
    prepare(("lock", "--upgrade"), ("sync",), ("bundle", "create", "-o", "b.tar"), LISTS["bundle load"], ("pull", f"{ALB}:1.7.9", MODULE))
    gone = next(name for name in members(place / "b.tar") if name.startswith("blobs/"))
    rewritten(place / "b.tar", place / "broken.tar", lambda files: {name: data for name, data in files.items() if name != gone})
    return place


def is_whole(line: str) -> bool:
    """Return whether a line may exceed the window: it has one long word, such as a path, behind its label or branch line."""
    words = re.split(r" +", line.strip("│├└─ ").removesuffix(" \\"))
    return len(words) <= 2 or (len(words) == 3 and words[1].islower())


@pytest.mark.parametrize(("columns", "rows"), WINDOWS)
def test_a_terminal_gets_columns_or_blocks_that_fit(here: Path, columns: int, rows: int) -> None:
    for name, words in LISTS.items():
        _, colored, _ = in_window(words, columns, rows)
        lines = ESCAPE.sub("", colored).splitlines()
        assert lines, name
        assert not any("\t" in line or "\x1b" in line for line in lines), (name, lines)
        assert [line for line in lines if len(line) > columns and not is_whole(line)] == [], name
        assert not re.search(r"sha256:[0-9a-f]{13}", "" if name == "bundle inspect" else "\n".join(lines)), name
        if name in TABLES:
            head = re.split(r" {2,}", lines[0])
            assert head[0].isupper(), (name, head)
            assert all(one.isupper() for one in head) or lines[0].split()[0].isupper(), (name, head)
            assert "\x1b[1m" in colored, name


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escape_reaches_a_terminal_where_color_is_off(here: Path, variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {name: in_window(words, 80, 24) for name, words in LISTS.items() if name not in CHANGING}
    monkeypatch.setenv(variable, value)
    for name, words in LISTS.items():
        code, out, err = in_window(words, 80, 24)
        assert "\x1b" not in out + err, name
        if name in shown:
            assert (code, out) == (shown[name][0], ESCAPE.sub("", shown[name][1])), name
    code, out, err = in_window(("pull", "aks/nope"), 80, 24)
    assert (code, out) == (3, "")
    assert "\x1b" not in err
    assert "\nerror: " in err
    assert "\nhint: " in err


def test_forced_color_adds_color_to_a_pipe_and_nothing_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = {name: words for name, words in LISTS.items() if name not in CHANGING} | {"a failure": ("pull", "aks/nope")}
    before = {name: in_pipe(words) for name, words in lists.items()}
    assert not any("\x1b" in text for _, *texts in before.values() for text in texts)
    monkeypatch.setenv("FORCE_COLOR", "1")
    painted = 0
    for name, words in lists.items():
        code, *texts = in_pipe(words)
        painted += any("\x1b" in text for text in texts)
        assert (code, *(ESCAPE.sub("", text) for text in texts)) == before[name], name
        document = in_pipe((*words, "--json"))[1]
        assert json.loads(document)["schema"] == 1
        assert "\x1b" not in document, name
    assert painted >= len(lists) // 2


def test_messages_have_colored_labels(here: Path) -> None:
    _, _, err = in_window(("pull", "aks/nope"), 80, 24)
    assert re.findall(r"\x1b\[([0-9;]*)m(\w+:) \x1b\[0m", err) == [
        ("1;33", "warning:"),
        ("1;31", "error:"),
        ("1;36", "hint:"),
    ]
    assert "\x1b" not in in_pipe(("pull", "aks/nope"))[2]


def piped(*words: str) -> list[list[str]]:
    return [line.split("\t") for line in in_pipe(words)[1].splitlines()]


def data(*words: str) -> Any:
    return json.loads(in_pipe((*words, "--json"))[1])["data"]


def test_pipes_get_whole_values_between_tabs(here: Path, mar: Registry) -> None:
    artifacts = data("lock")["artifacts"]
    assert piped("lock") == [["kept", one["name"], one["reference"]] for one in artifacts]
    assert piped("sync") == [["unchanged", one["name"], one["reference"]] for one in artifacts]
    assert piped("outdated") == [["alb", "1.7.12", "-", "1.11.4", "-"], ["storage-account", "0.9.1", "-", "0.14.0", "-"]]
    assert [row[:3] for row in piped("verify", "-f", "marfetch.yaml", "--at", AT)][2] == ["verified", "thing", artifacts[2]["reference"]]
    lines = piped("plan", f"{ALB}:1.7.12", f"{ALB}:1.8.12")
    assert [one[0] for one in lines] == ["artifact", "artifact", "host", "host", "total"]
    assert lines[0][1:] == [data("resolve", f"{ALB}:1.7.12")["reference"], "chart", "in the cache"]
    assert lines[3][1:] == [mar.data_host, mar.data_host.rpartition(":")[2], "http", "1 request", "10.0 KiB"]
    assert lines[4][1:] == ["4 requests", "10.0 KiB", "10.0 KiB in the cache"]
    bundle = data("bundle", "inspect", "b.tar")["artifacts"]
    expected = []
    for one in bundle:
        expected.append([one["name"], one["version"] or "-", one["kind"], str(one["size"]), one["reference"]])
        expected += [["", tool, line] for tool, lines in one["lines"].items() for line in lines]
    assert piped("bundle", "inspect", "b.tar") == expected
    created = data("bundle", "create", "-o", "new.tar")
    assert piped("bundle", "create", "-o", "new.tar") == [[created["path"], created["digest"], str(created["size"])]]
    assert piped("bundle", "load", "b.tar", "--to", "./mirror") == [
        ["unchanged", one["reference"]] for one in data("bundle", "load", "b.tar", "--to", "./mirror")["artifacts"]
    ]
    (changed,) = data("bundle", "diff", "other.tar", "b.tar")["artifacts"]
    assert piped("bundle", "diff", "other.tar", "b.tar") == [
        ["changed", changed["name"], changed["old"]["reference"], changed["new"]["reference"]]
    ]
    missing = data("bundle", "verify", "broken.tar")["missing"]
    assert piped("bundle", "verify", "broken.tar")[0] == ["missing", missing[0]["name"], missing[0]["reason"]]
    digest = artifacts[2]["digest"]
    lines = piped("verify", "signed/thing:1.0.0", "--at", AT)
    assert lines[0] == ["verified", f"{mar.host}/signed/thing:1.0.0@{digest}"]
    assert [one[0] for one in lines[1:5]] == ["signed by", "at", "root", "signature"]
    assert {(one[0], one[1]) for one in lines[5:]} == {
        (f"check {name}", "ok") for name in ("integrity", "signer", "expiry", "time", "revocation")
    }


def test_adopted_references_are_a_table_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("piped", "shown"):
        (here / name).mkdir()
        (here / name / "install.sh").write_text(f"marfetch pull mcr.microsoft.com/{ALB}:1.7.12\n")
    monkeypatch.chdir(here / "piped")
    assert piped("lock", "--from", "install.sh") == [["alb-controller", f"{ALB}:1.7.12", "-", "install.sh:1"]]
    monkeypatch.chdir(here / "shown")
    _, out, _ = in_window(("lock", "--from", "install.sh"), 100, 40)
    head, line = ESCAPE.sub("", out).splitlines()
    assert head.split() == ["NAME", "REFERENCE", "VERSION", "FROM"]
    assert line.split() == ["alb-controller", f"{ALB}:1.7.12", "-", "install.sh:1"]


def test_a_lock_on_a_terminal_shows_what_moved(here: Path) -> None:
    (here / "marfetch.yaml").write_text(WANTED.replace("~1.7", "^1"))
    _, out, _ = in_window(("lock", "--upgrade", "alb"), 80, 24)
    first, second, *_ = ESCAPE.sub("", out).splitlines()
    assert first.split() == ["OUTCOME", "NAME", "VERSION", "DIGEST"]
    assert re.fullmatch(r"upgraded +alb +1\.7\.12 → 1\.11\.4 +sha256:[0-9a-f]{12}", second)


def test_control_characters_of_a_publisher_reach_no_terminal(here: Path, mar: Registry) -> None:
    mar.add_artifact("aks/evil", "1", ("a.txt", b"x"), annotations={"org.opencontainers.image.created": "\x1b[2J\t", "b\x07": "汉字\u202e"})
    _, out, err = in_window(("inspect", "aks/evil:1"), 80, 24)
    assert not set(ESCAPE.sub("", out + err)) & set("\t\x1b\x07\u202e")
    assert "汉字" in out


def test_every_status_word_has_its_style() -> None:
    """Color only repeats the meaning of a word. If you add a status word, choose its color in `table.py`."""
    words: set[str] = set()
    for kind in (locking.Change, sync.Outcome, prune.PruneOutcome, targets.Outcome, signatures.Outcome, decide.Status, Status, Sort):
        words |= set(get_args(kind))
    for owner, field in ((Problem, "kind"), (inventory.Changed, "change"), (verdict.Verdict, "outcome"), (verdict.CheckOutcome, "outcome")):
        words |= set(re.findall(r"['\"]([a-z-]+)['\"]", str(owner.__annotations__[field])))
    unseen = {"unsigned", "unchecked", "passed"}  # printed as a note, as a warning, and as `ok`
    assert words - unseen <= set(table._STYLES)
    assert set(table._STYLES) - words == {"keeps", "writes", "would write", "written"}  # words of `trust add-microsoft` and `setup`
