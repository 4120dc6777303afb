"""What is told and kept on the way: details of versions, the voice, guidance, the budget, locks, small files, the place of the cache."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from marfetch import files, guidance
from marfetch import lock as locks
from marfetch.__main__ import main
from marfetch.budget import Budget, Cancelled
from marfetch.cache import Cache
from marfetch.cli.render import listed
from marfetch.client import Client
from marfetch.config import MAX_SIZE as MAX_CONFIG_SIZE
from marfetch.constraint import Constraint, read_version
from marfetch.endpoint import OFFICIAL, Address
from marfetch.errors import CODES, Error, IntegrityError, PolicyError, RemoteError, StorageError
from marfetch.files import Writer, storage_error, write_whole
from marfetch.history import Details, Entry, History, history
from marfetch.lock import claim, lock, wait_for
from marfetch.oci import Descriptor, descriptor_json
from marfetch.reference import Reference
from marfetch.report import Bar, Plain, Report, Silent, error_json
from marfetch.text import human_size, printable

from ..world.charts import add_chart
from ..world.content import ALB, IMAGE
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.registry import Registry

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
LIFECYCLE = "application/vnd.microsoft.artifact.lifecycle"
Made = Callable[..., Client]


# -- the details of versions


def chart(mar: Registry, version: str, config: bytes, described_as: int | None = None, **more: Any) -> Descriptor:
    """A chart in `aks/toy` with this config, whatever it is, and the size that its manifest gives for it."""
    return add_chart(mar, "aks/toy", version, b"chart " + version.encode(), config=config, config_size=described_as, **more)


def newest(found: History) -> Details:
    details = found.entries[0].details
    assert details is not None
    return details


def test_details_are_what_manifest_and_config_say(client: Made, mar: Registry) -> None:
    created = {"org.opencontainers.image.created": "2026-01-02T03:04:05Z"}
    descriptor = chart(mar, "1.0.0", b'{"name":"toy","appVersion":"v9"}', annotations=created)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert found == Details(str(descriptor.digest), descriptor.media_type, len(b"chart 1.0.0"), "2026-01-02T03:04:05Z", "v9")


def test_details_are_fetched_for_so_many_and_no_list_is_asked_twice(client: Made, mar: Registry) -> None:
    found = history(client(), Reference(ALB), details=2)
    assert [entry.details is not None for entry in found.entries] == [True, True] + [False] * 7
    assert mar.kinds().count("tags") == 1
    assert mar.kinds().count("manifest") == 2
    mar.asked.clear()
    assert history(client(), Reference(ALB)).entries[0].details is None
    assert mar.kinds() == ["tags"]


def test_a_second_look_asks_for_no_config(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v9"}')
    for times in (1, 0):
        mar.asked.clear()
        with client() as one:
            assert newest(history(one, Reference("aks/toy"), details=1)).app_version == "v9"
        assert mar.kinds().count("data") == times


@pytest.mark.parametrize(
    ("text", "prereleases", "tags"),
    [("^1", True, ["1.1.0-rc.1", "1.0.0"]), ("^1", False, ["1.0.0"]), (">=2", True, ["2.0.0"]), ("^7", True, [])],
)
def test_a_range_narrows_the_list(client: Made, mar: Registry, text: str, prereleases: bool, tags: list[str]) -> None:
    mar.tags["aks/toy"] = ["1.0.0", "1.1.0-rc.1", "2.0.0", "latest"]
    found = history(client(), Reference("aks/toy"), constraint=Constraint.parse(text), prereleases=prereleases)
    assert [entry.tagged.tag for entry in found.entries] == tags
    assert found.other == ("latest",)


CONFIGS = {
    "a number": (b'{"appVersion":9}', None),
    "null": (b'{"appVersion":null}', None),
    "nothing": (b'{"name":"toy"}', None),
    "a list": (b"[]", None),
    "half": (b'{"appVersion":"v9"', "malformed"),
    "a web page": (b"<html>", "malformed"),
    "two of one name": (b'{"appVersion":"v9","appVersion":"v8"}', "malformed"),
}


@pytest.mark.parametrize(("config", "code"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_says_no_app_version_gives_none(client: Made, mar: Registry, config: bytes, code: str | None) -> None:
    chart(mar, "1.0.0", config)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert found.app_version is None
    assert (found.error.code if found.error else None) == code


def test_a_config_that_is_too_large_is_not_asked_for(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v9"}', MAX_CONFIG_SIZE + 1)
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert (found.app_version, found.error) == (None, None)
    assert {"blob", "data"}.isdisjoint(mar.kinds())


def test_a_config_with_other_bytes_is_an_error_of_its_version_alone(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v8"}')
    wrong = chart(mar, "2.0.0", b'{"appVersion":"v9"}')
    config = json.loads(mar.manifests[f"aks/toy {wrong.digest}"][1])["config"]["digest"]
    mar.blobs[config] = b'{"appVersion":"bad"}'[:19]
    newer, older = history(client(), Reference("aks/toy"), details=2).entries
    assert newer.details is not None
    assert older.details is not None
    assert isinstance(newer.details.error, IntegrityError)
    assert (newer.details.app_version, older.details.app_version) == (None, "v8")


def test_an_index_has_no_size_and_a_file_no_app_version(client: Made, mar: Registry) -> None:
    mar.add_artifact("aks/toy", "1.0.0", ("a", b"12"), ("b", b"345"))
    found = newest(history(client(), Reference("aks/toy"), details=1))
    assert (found.size, found.app_version, found.error) == (5, None, None)
    index = next(entry for entry in history(client(), Reference(IMAGE), details=1).entries if entry.details)
    assert index.details is not None
    assert (index.details.size, index.details.media_type) == (None, "application/vnd.oci.image.index.v1+json")


def test_the_end_of_support_is_that_of_its_own_version(client: Made, mar: Registry) -> None:
    old, _ = chart(mar, "1.0.0", b"{}"), chart(mar, "2.0.0", b"{}")
    notes = {"vnd.microsoft.artifact.lifecycle.end-of-life.date": "2024-11-12"}
    mar.add_artifact("aks/toy", "mark", (None, b"{}"), subject=descriptor_json(old), artifactType=LIFECYCLE, annotations=notes)
    found = history(client(), Reference("aks/toy"), details=2)
    assert [entry.details and entry.details.end_of_life for entry in found.entries] == [None, date(2024, 11, 12)]


@pytest.mark.usefixtures("impatient")
def test_a_failure_among_referrers_is_said_and_not_taken_for_none(client: Made, mar: Registry) -> None:
    mar.on("referrers").answers(501)
    found = newest(history(client(), Reference(ALB), details=1))
    assert found.error is not None
    assert found.error.exit_code == 7


def test_offline_tells_what_the_cache_has_and_what_it_lacks(client: Made, mar: Registry) -> None:
    chart(mar, "1.0.0", b'{"appVersion":"v8"}')
    chart(mar, "2.0.0", b'{"appVersion":"v9"}')
    with client() as one:
        history(one, Reference("aks/toy"), constraint=Constraint.parse("^1"), details=1)
        bound, source = one.bind(Reference("aks/toy", tag="2.0.0"))
        one.manifest(bound, source)
    mar.asked.clear()
    newer, older = history(client(offline=True), Reference("aks/toy"), details=2).entries
    assert newer.details is not None
    assert older.details is not None
    assert newer.details.error is not None
    assert (newer.details.error.code, older.details.app_version) == ("offline", "v8")
    assert mar.asked == []


# -- the voice

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
    return History(Reference("aks/toy"), (Entry(version, (text,), known), Entry(version, (), failed)), (text,))


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
    transfer = Plain(notes.append, notes.append, now=lambda: time[0]).begin("toy", 4 << 20)
    for moment, held in ((1.0, 1), (5.0, 1 << 20), (6.0, 2 << 20), (9.9, 3 << 20), (10.0, 4 << 20)):
        time[0] = moment
        transfer.held(held)
    transfer.end()
    assert notes == ["toy: 1.0 MiB of 4.0 MiB (25 %)", "toy: 4.0 MiB of 4.0 MiB (100 %)"]


def test_progress_of_nothing_is_no_trouble() -> None:
    time, notes = [0.0], list[str]()
    transfer = Plain(notes.append, notes.append, now=lambda: time[0]).begin("toy", 0)
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


# -- guidance


def test_the_hosts_for_a_firewall_are_those_that_a_fetch_may_touch() -> None:
    told_hosts = {(rule.endpoint, rule.host) for rule in guidance.RULES}
    touched = {(name, host) for name, one in OFFICIAL.items() for host in (one.registry.host.name, *map(str, one.data_hosts))}
    assert told_hosts == touched
    assert len(guidance.RULES) == len(told_hosts)
    assert {(rule.protocol, rule.port) for rule in guidance.RULES} == {("https", 443)}


@pytest.mark.parametrize("host", [host for host, _ in guidance.NOT_MAR])
@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_taken_for_mar_is_not_reached(name: str, host: str) -> None:
    with pytest.raises(PolicyError):
        OFFICIAL[name].check(Address.parse(f"https://{host.replace('*', 'x')}/v2/"))


def test_statements_are_short_lines_and_links_are_https() -> None:
    texts = [text for _, text in (*guidance.STATEMENTS, *guidance.NOT_MAR)] + [rule.purpose for rule in guidance.RULES]
    assert all(text and len(text) < 160 and printable(text) == text for text in texts)
    links = [link for _, link in (*guidance.DATA_LOCATIONS, *guidance.SUPPORT)] + [guidance.SOURCE]
    assert all(link.startswith("https://") for link in links)
    for rows in (guidance.STATEMENTS, guidance.NOT_MAR, guidance.DATA_LOCATIONS, guidance.SUPPORT):
        assert len(dict(rows)) == len(rows)
    assert len(set(guidance.REGISTRY_LOCATIONS)) == len(guidance.REGISTRY_LOCATIONS)


# -- the budget


def test_a_budget_counts_down_and_then_says_so() -> None:
    time = [100.0]
    budget = Budget(2.5, now=lambda: time[0])
    assert budget.remaining == 2.5
    time[0] = 102.4
    budget.check()
    time[0] = 102.5
    for spend in (budget.check, lambda: budget.sleep(600)):
        with pytest.raises(RemoteError, match=r"not done within the 2\.5 s of `--timeout`") as caught:
            spend()
        assert (caught.value.code, caught.value.exit_code, caught.value.context) == ("timeout", 7, {"timeout": 2.5})


def test_without_a_timeout_there_is_no_end() -> None:
    time = [0.0]
    budget = Budget(now=lambda: time[0])
    time[0] = 1e12
    budget.check()
    budget.sleep(-5)
    assert (budget.remaining, budget.deadline) == (float("inf"), None)


def test_stopping_wakes_whoever_sleeps_and_counts_before_the_time() -> None:
    budget, ended = Budget(), list[bool]()

    def sleep() -> None:
        try:
            budget.sleep(600)
        except Cancelled:
            ended.append(True)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    budget.cancel()
    sleeper.join(60)
    assert ended == [True]
    time = [0.0]
    late = Budget(1, now=lambda: time[0])
    late.cancel()
    time[0] = 5.0
    with pytest.raises(Cancelled):
        late.check()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "23:59:58"),
        (1.9, "23:59:59"),
        (2, "2026-11-24 00:00:00"),
        (86400 * 40, "2027-01-02 23:59:58"),
        (1e12, "no day in sight"),
        (1e15, "no day in sight"),
        (float("inf"), "no day in sight"),
    ],
)
def test_a_moment_is_told_with_its_day_where_that_is_another(seconds: float, text: str) -> None:
    start = datetime(2026, 11, 23, 23, 59, 58, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert Budget(local_time=lambda: start).clock_time(seconds) == text
    assert Budget(local_time=lambda: start.astimezone(UTC)).clock_time(0) == "18:29:58"


# -- locks between processes

HOLDS = "import sys, time; from pathlib import Path; from marfetch.lock import lock\nwith lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
CLAIMS = "import sys, time; from marfetch.lock import claim; file = open(sys.argv[1], 'rb'); print(claim(file.fileno()), flush=True); time.sleep(600)"


@contextmanager
def other_process(code: str, path: Path, says: bytes) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == says
            yield process
        finally:
            process.kill()


def test_a_lock_that_another_process_holds_is_exit_9_and_ends_with_that_process(tmp_path: Path) -> None:
    path = tmp_path / "index.lock"
    with other_process(HOLDS, path, b"held\n") as process:
        with pytest.raises(StorageError, match="another process holds the lock") as caught, lock(path, wait=0):
            pytest.fail("both have it")
        assert (caught.value.exit_code, caught.value.code, caught.value.context["path"]) == (9, "file-unusable", str(path))
        assert "--cache-dir" in caught.value.hint
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        with lock(path, wait=0):
            assert path.exists()
    with lock(path, wait=0):  # and it was given back
        pass


def test_a_lock_keeps_threads_of_one_process_out_too(tmp_path: Path) -> None:
    with lock(tmp_path / "x.lock"), pytest.raises(StorageError), lock(tmp_path / "x.lock", wait=0):
        pytest.fail("both have it")


def test_a_lock_is_given_back_after_a_failure(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock(tmp_path / "x.lock", wait=0):
            raise ZeroDivisionError


@pytest.mark.parametrize("place", ["file/x.lock", "directory"])
def test_a_lock_that_cannot_be_made_is_exit_9(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StorageError) as caught, lock(tmp_path / place, wait=0):
        pytest.fail("there is no such lock")
    assert caught.value.exit_code == 9


def test_an_open_file_is_claimed_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x")
    with other_process(CLAIMS, tmp_path / "part", b"True\n") as process, (tmp_path / "part").open("rb") as file:
        assert claim(file.fileno()) is False
        process.kill()
        process.wait(60)
        assert claim(file.fileno()) is True
        with (tmp_path / "part").open("rb") as again:
            assert claim(again.fileno()) is False
    with (tmp_path / "part").open("rb") as last:
        assert claim(last.fileno()) is True


def test_whoever_waits_for_a_claim_goes_on_when_its_process_ends_and_may_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOOK", 0.0)
    (tmp_path / "part").write_bytes(b"x")
    with other_process(CLAIMS, tmp_path / "part", b"True\n") as process, (tmp_path / "part").open("rb") as file:

        def give_up() -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            wait_for(file.fileno(), give_up)
        wait_for(file.fileno(), process.kill)
        assert process.wait(60) == -signal.SIGKILL


# -- small files


def test_a_small_file_is_written_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    for data in (b"one", b"", b"other"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert [one.name for one in path.parent.iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), KeyboardInterrupt()], ids=["full", "broken", "interrupted"]
)
@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, failure: BaseException
) -> None:
    path = tmp_path / "index.json"
    write_whole(path, b"old")

    def fail(self: Path, *_: object) -> None:
        with self.open("wb") as file:
            file.write(b"ne")
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(Path, moment, fail)
        with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.glob("*index*")) == [path]
    if isinstance(caught.value, StorageError):
        assert caught.value.exit_code == 9
        assert caught.value.context["path"] == str(path)


@pytest.mark.parametrize("thing", ["a directory", "a file in place of the parent"])
def test_what_stands_in_the_way_of_a_small_file_is_exit_9_and_stays(tmp_path: Path, thing: str) -> None:
    path = tmp_path / "x"
    if thing == "a directory":
        (path / "inside").mkdir(parents=True)
    else:
        path.write_text("file")
        path = path / "y"
    with pytest.raises(StorageError):
        write_whole(path, b"new")
    assert (tmp_path / "x" / "inside").is_dir() if thing == "a directory" else (tmp_path / "x").read_text() == "file"
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_says_what_is_needed_and_what_is_there(tmp_path: Path) -> None:
    error = storage_error(OSError(errno.ENOSPC, "No space left"), tmp_path / "x", needed=123)
    assert error.context["needed"] == 123
    assert error.message.startswith(f"the disk is full: it needs 123 bytes and has {error.context['free']}, at `")
    unknown = storage_error(OSError(errno.ENOSPC, "No space left"), "/no/such/place/x", needed=123)
    assert unknown.message == "the disk is full, at `/no/such/place/x`"
    assert "free" not in unknown.context


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("odd"), "odd"), (OSError(errno.ELOOP, "Too many links"), "too many links"), (OSError(errno.EPERM, "No"), "no")],
)
def test_every_failure_of_a_file_names_it_and_what_to_do(error: OSError, words: str) -> None:
    made = storage_error(error, "/x/y")
    assert made.message == f"{words}: `/x/y`"
    assert made.exit_code == 9
    assert made.hint


class Grudging(io.RawIOBase):
    """A file that takes a few bytes at a time."""

    def __init__(self, most: int) -> None:
        self.taken = bytearray()
        self.most = most

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def write(self, data: Any, /) -> int:
        self.taken += bytes(data[: self.most])
        return min(self.most, len(data))


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_everything_is_written_also_where_the_disk_takes_a_part_at_a_time(most: int) -> None:
    file = Grudging(most)
    writer = Writer(file)  # type: ignore[arg-type]
    for data in (b"", b"one", bytearray(b"two"), memoryview(b"three" * 20)):
        writer.write(data)
    assert bytes(file.taken) == b"onetwo" + b"three" * 20


@pytest.mark.parametrize("helps", [True, False])
def test_a_large_file_is_not_kept_in_memory_and_that_is_only_a_wish(monkeypatch: pytest.MonkeyPatch, helps: bool) -> None:
    asked: list[tuple[int, ...]] = []

    def advise(*arguments: int) -> None:
        asked.append(arguments)
        if not helps:
            raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(files, "_RELEASE_EVERY", 100)
    file: BinaryIO = Grudging(1 << 20)  # type: ignore[assignment]
    writer = Writer(file)
    for _ in range(25):
        writer.write(b"x" * 10)
    assert asked == [(0, 0, 0, 4)] * 2
    lazy = Writer(file, lazy=True)
    for _ in range(25):
        lazy.write(b"x" * 10)
    assert len(asked) == 2


# -- the place of the cache, and exit 9


def test_a_cache_that_is_something_else_is_never_passed_over(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    marker = tmp_path / "xdg" / "marfetch" / "oci-layout"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"imageLayoutVersion":"9.0.0"}')
    with pytest.raises(StorageError) as caught:
        Cache(None, heard, Budget())
    assert (caught.value.code, caught.value.exit_code) == ("cache-damaged", 9)
    assert marker.read_text() == '{"imageLayoutVersion":"9.0.0"}'


def test_a_cache_that_everybody_can_write_is_refused_also_where_nobody_named_it(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARFETCH_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    place = tmp_path / "xdg" / "marfetch"
    place.mkdir(parents=True)
    place.chmod(0o777)
    with pytest.raises(PolicyError) as caught:
        Cache(None, heard, Budget())
    assert caught.value.code == "cache-unsafe"
    assert list(place.iterdir()) == []


def test_a_named_directory_counts_before_the_environment(tmp_path: Path, heard: Heard) -> None:
    with Cache(tmp_path / "named", heard, Budget()) as cache:
        assert cache.layout.root == tmp_path / "named"
    assert (tmp_path / "named" / "oci-layout").is_file()
    assert not (tmp_path / "cache").exists()
    assert heard.warnings == []


FAILING: dict[str, list[str]] = {
    "a cache below a file": ["pull", f"{ALB}:1.7.12", "--cache-dir", "file/cache"],
    "a cache that is a file": ["pull", f"{ALB}:1.7.12", "--cache-dir", "file"],
    "a cache of another version": ["resolve", ALB, "--cache-dir", "alien"],
    "a destination that is a file": ["pull", f"{ALB}:1.7.12", "--destination", "file"],
    "a destination below a file": ["pull", f"{ALB}:1.7.12", "--destination", "file/below"],
    "a directory in the place of the file": ["pull", f"{ALB}:1.7.12", "--destination", "taken"],
}


@pytest.mark.parametrize("arguments", FAILING.values(), ids=FAILING)
def test_what_cannot_be_kept_is_exit_9_with_the_path_and_a_hint(
    mar: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "alien").mkdir()
    (tmp_path / "alien" / "oci-layout").write_text('{"imageLayoutVersion":"9.0.0"}')
    (tmp_path / "taken" / "alb-controller-1.7.12.tgz").mkdir(parents=True)
    assert main([*arguments, "--json"]) == 9
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["exitCode"] == 9
    assert CODES[error["code"]].kind == "StorageError"
    assert arguments[-1].partition("/")[0] in error["path"]
    assert "\nhint: " in said.err
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["file"]
