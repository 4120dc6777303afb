"""Regression tests with hostile input and broken environments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marfetch.endpoint import Preference
from marfetch.errors import InputError, IntegrityError, PolicyError
from marfetch.reference import Reference
from marfetch.text import redacted

from ..world.command import Run, document, surroundings
from ..world.content import ALB
from ..world.registry import MSEDGE, Registry

FAILING = f"{ALB}:9.9.9"


# -- responses that are slow to parse; without a limit, each takes far longer than the timeout of a test


@pytest.mark.slow
@pytest.mark.parametrize("media_type", ["application/json", "application/vnd.oci.image.manifest.v1+json"])
def test_a_deeply_nested_manifest_is_malformed_for_every_media_type(mar: Registry, run: Run, media_type: str) -> None:
    mar.on("manifest").answers_with(b"[" * 200_000, Content_Type=media_type, Docker_Content_Digest=None)  # type: ignore[arg-type]
    assert document(run("resolve", f"{ALB}:1.7.12", "--json"))["error"]["code"] == "malformed"


@pytest.mark.slow
def test_a_duplicate_among_very_many_names_is_found_quickly() -> None:
    from marfetch.document import parse_json

    names = ",".join(f'"{number:x}":0' for number in range(400_000))
    with pytest.raises(IntegrityError, match="appears twice"):
        parse_json(f'{{{names},"61a7f":0}}'.encode(), "it")


@pytest.mark.slow
def test_an_error_page_of_brackets_is_parsed_quickly(mar: Registry, run: Run) -> None:
    mar.on("manifest").answers(404, "<" * 65_536)
    assert run("resolve", f"{ALB}:1.7.12").returncode == 3


# -- several processes and references


@pytest.mark.slow
def test_processes_that_pull_the_same_file_all_succeed(mar: Registry, tmp_path: Path) -> None:
    mar.add_artifact("aks/large", "1", ("large.bin", bytes(range(256)) * 48_000))
    line = [sys.executable, "-m", "marfetch", "pull", "aks/large:1", "-d", "out", "--quiet"]
    many = [
        subprocess.Popen(
            line, cwd=tmp_path, env=surroundings(mar, tmp_path / "cache"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    output = [process.communicate(timeout=90) for process in many]
    assert [process.returncode for process in many] == [0] * 6, output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["large.bin"]


@pytest.mark.slow
def test_an_invalid_reference_does_not_stop_the_others(run: Run) -> None:
    done = run("pull", FAILING, "aks//b", "https://u:secret@mcr.microsoft.com/a/b", f"{ALB}:1.7.12", "--json")
    found = document(done)
    assert done.returncode == 3
    assert [one["exitCode"] for one in found["data"]["failed"]] == [3, 2, 4]
    assert [one["path"] for one in found["data"]["files"]] == ["alb-controller-1.7.12.tgz"]
    assert "secret" not in done.stdout + done.stderr
    assert f"error: {FAILING}" in done.stderr.replace("127.0.0.1", "").replace("error: :", "error: ") or FAILING in done.stderr


# -- endpoints, redirects and URLs


@pytest.mark.parametrize(
    ("text", "name"),
    [("https://mcr.microsoft.com", "global"), ("https://mcr.microsoft.com:443/", "global"), ("https://MCR.azure.cn", "china")],
)
def test_every_spelling_of_an_official_host_is_the_official_endpoint(text: str, name: str) -> None:
    for preference in (Preference(option=text), Preference(environment=text, data_environment="evil.example")):
        endpoint = preference.default()
        assert (endpoint.name, endpoint.official) == (name, True)
        assert "evil.example" not in map(str, endpoint.data_hosts)
    with pytest.raises(InputError):
        Preference(option=text, data_hosts=("evil.example",)).default()


@pytest.mark.parametrize("text", ["https://eastus.data.mcr.microsoft.com", "https://own.example#x", "https://own.example/?x", ""])
def test_invalid_endpoints_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Preference(option=text).default()


@pytest.mark.slow
@pytest.mark.parametrize("location", ["http://10.0.0.1/x", "https://u:secret@eastus.example/x", "http://127.1:1/x", "https://a\\@b/x"])
def test_a_refused_redirect_names_the_host_that_sent_it(mar: Registry, run: Run, location: str) -> None:
    mar.on("blob").redirects(location)
    done = run("pull", f"{ALB}:1.7.12", "--json")
    error = document(done)["error"]
    assert done.returncode == 4
    assert mar.host in error["message"]
    assert error["rule"]
    assert "secret" not in done.stdout + done.stderr


SECRETS = [
    "https://evil.example.org/p?u=http://q&sig=SECRET",
    "/p?u=http://q&sig=SECRET",
    "https://evil.example?sig=SECRET",
    "https://evil.example#SECRET",
    "https://u:SECRET@host/x",
    "https://u:p?SECRET@host/x",
    "https://host?x=@SECRET",
    "u:SECRET@host",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_in_a_url_are_not_shown(text: str) -> None:
    assert "SECRET" not in redacted(text)


@pytest.mark.slow
def test_a_refused_signed_redirect_does_not_show_its_signature(mar: Registry, run: Run) -> None:
    mar.on("blob").redirects(SECRETS[0])
    done = run("pull", f"{ALB}:1.7.12", "--json", "--verbose")
    assert done.returncode == 4
    assert "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["https://eastus.data.mcr.microsoft.com/x/y?sig=SECRET", "https://u:SECRET@mcr.microsoft.com/a/b"])
def test_a_url_with_a_secret_as_reference_does_not_show_it(text: str) -> None:
    with pytest.raises((InputError, PolicyError)) as caught:
        Reference.parse(text)
    assert "SECRET" not in f"{caught.value} {caught.value.context}"


@pytest.mark.parametrize(
    "text", ["mcr.microsoft.com:443", "localhost:5000", "127.0.0.1:5000", "example.com", "oci://example.com", "[::1]:5000"]
)
def test_a_registry_without_a_repository_is_not_a_reference(text: str) -> None:
    with pytest.raises(InputError, match="no repository"):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("https://mcr.microsoft.com/v2/aks/foo/manifests/1.2.3", "mcr.microsoft.com/aks/foo:1.2.3"),
        ("https://mcr.microsoft.com/v2/aks/foo/tags/list", "mcr.microsoft.com/aks/foo"),
        ("https://mcr.microsoft.com/product/aks/foo/about", "mcr.microsoft.com/aks/foo"),
        ("https://mcr.microsoft.com/en-us/product/aks/foo/tags", "mcr.microsoft.com/aks/foo"),
        ("https://mcr.microsoft.com/artifact/mar/aks/foo", "mcr.microsoft.com/aks/foo"),
    ],
)
def test_urls_from_a_browser_or_a_log_are_references(text: str, reference: str) -> None:
    assert str(Reference.parse(text)) == reference


# -- messages


@pytest.mark.slow
def test_wrong_bytes_are_reported_with_host_and_reference(mar: Registry, run: Run) -> None:
    large = b"x" * 5000
    mar.add_artifact("aks/foo", "1", ("foo.bin", large))
    mar.on("data").answers_with(b"y" * 5000, X_Msedge_Ref=MSEDGE)
    done = run("pull", "aks/foo:1", "--json")
    error = document(done)["error"]
    assert done.returncode == 5
    assert "aks/foo:1" in error["message"]
    assert mar.data_host in error["message"]
    assert error["msedge_ref"] == MSEDGE
    assert error["url"].startswith(f"http://{mar.data_host}/")
    assert f"X-Msedge-Ref: {MSEDGE}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "command"), [("manifest", ("resolve", f"{ALB}:1.7.12")), ("tags", ("versions", ALB))])
def test_a_malformed_response_has_its_reference_id(mar: Registry, run: Run, kind: str, command: tuple[str, ...]) -> None:
    mar.on(kind).answers_with(b'{"tags": 7}', X_Msedge_Ref=MSEDGE, Docker_Content_Digest=None)  # type: ignore[arg-type]
    done = run(*command, "--json")
    assert done.returncode == 5
    assert document(done)["error"]["msedge_ref"] == MSEDGE


@pytest.mark.slow
def test_a_dangling_tag_names_the_next_best_version(mar: Registry, run: Run) -> None:
    def best(*arguments: str) -> tuple[int, str, list[str]]:
        done = run("resolve", *arguments, "--json")
        error = document(done)["error"]
        return done.returncode, error["code"], error["nearest"]

    mar.on("manifest", "1.10.27").answers(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN"}]}))
    assert best(f"{ALB}:1.10.27") == (3, "dangling-tag", ["1.8.12"])
    assert best(ALB, "--version", "1.10.27") == (3, "dangling-tag", ["1.8.12"])
    assert best(ALB, "--version", "~1.10") == (3, "dangling-tag", ["1.8.12"])
    assert best(ALB, "--version", "<=1.10.27") == (3, "dangling-tag", ["1.8.12"])


def test_invalid_entries_of_a_tag_list_are_counted(mar: Registry, run: Run) -> None:
    mar.on("tags").answers_with(b'{"name":"x","tags":["1.0.0",1,null,"a b"]}')
    assert "3 invalid entries of the tag list" in run("versions", ALB).stderr


def test_an_empty_index_is_exit_3(mar: Registry, run: Run) -> None:
    raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    mar.add_manifest("aks/empty", "1", raw)
    done = run("pull", "aks/empty:1", "--json")
    assert (done.returncode, document(done)["error"]["code"]) == (3, "platform-not-found")


@pytest.mark.parametrize("title", ["con .txt", "LPT1 .txt", ".marfetch-0123456789abcdef.part", ".MARFETCH-x"])
def test_titles_reserved_on_another_system_are_refused(mar: Registry, run: Run, title: str) -> None:
    mar.add_artifact("aks/titled", "1", (title, b"x"))
    assert run("pull", "aks/titled:1").returncode == 4


# -- streams, signals and the operating system


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pull", f"{ALB}:1.7.12"], 0),
        (["versions", ALB, "--json"], 0),
        (["--version"], 0),
        (["--help"], 0),
        (["resolve", FAILING, "--json"], 3),
        (["pull", FAILING, "--json"], 3),
        (["pull", f"{ALB}:1.7.12", FAILING], 3),
        (["pull", f"{ALB}:1.7.12", FAILING, "--json"], 3),
        (["cache", "verify"], 0),
        (["diff", f"{ALB}:1.7.9", f"{ALB}:1.7.12"], 1),
    ],
)
def test_a_closed_pipe_is_no_failure_and_hides_none(mar: Registry, tmp_path: Path, arguments: list[str], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "marfetch", *arguments]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env=surroundings(mar, tmp_path / "cache"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("arguments", "code"), [(["versions", ALB], 9), (["--version"], 9), (["resolve", FAILING, "--json"], 3)])
def test_a_full_disk_behind_stdout_is_reported(mar: Registry, tmp_path: Path, arguments: list[str], code: int) -> None:
    line = [sys.executable, "-m", "marfetch", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env=surroundings(mar, tmp_path / "cache"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert "error:" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["cache"]])
def test_without_a_command_the_help_is_printed(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: marfetch")
    assert len(done.stderr.splitlines()) > 5


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_an_interrupted_command_still_prints_json(mar: Registry, tmp_path: Path, number: int, code: int, word: str) -> None:
    mar.on("manifest").stalls_before_headers()
    line = [sys.executable, "-m", "marfetch", "resolve", f"{ALB}:1.7.12", "--json"]
    process = subprocess.Popen(
        line, cwd=tmp_path, env=surroundings(mar, tmp_path / "cache"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(200):
        if mar.asked:
            break
        signal.sigtimedwait([], 0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert json.loads(out)["error"]["code"] == word
    assert "Traceback" not in err


def test_a_limit_of_open_files_is_reported(mar: Registry, tmp_path: Path) -> None:
    for number in range(12):
        mar.add_artifact(f"aks/small{number}", "1", (f"small{number}.bin", b"%d" % number))
    refs = " ".join(f"aks/small{number}:1" for number in range(12))
    line = f"ulimit -n 24; exec {sys.executable} -m marfetch pull {refs} --json"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=surroundings(mar, tmp_path / "cache"), capture_output=True, text=True, timeout=90, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 7, 9)
    json.loads(done.stdout)


def test_a_file_instead_of_a_cache_directory_is_reported(run: Run, tmp_path: Path) -> None:
    run("pull", f"{ALB}:1.7.12")
    (tmp_path / "cache" / "ingest").rmdir()
    (tmp_path / "cache" / "ingest").write_text("x")
    for command in ("info", "prune"):
        done = run("cache", command, "--json")
        assert done.returncode in (0, 9)
        document(done)


@pytest.mark.parametrize("proxy", ["http://x:notaport", "http://[", "socks5://x:1"])
def test_an_invalid_proxy_is_reported(run: Run, proxy: str) -> None:
    done = run("resolve", "mcr.microsoft.com/aks/foo:1", "--json", environment={"HTTPS_PROXY": proxy})
    assert (done.returncode, document(done)["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize("days", ["nan", "-1"])
def test_invalid_days_are_refused(run: Run, days: str) -> None:
    assert run("cache", "prune", "--unused-days", days).returncode == 2


def test_a_missing_ca_file_is_reported_even_without_tls(run: Run) -> None:
    assert run("resolve", f"{ALB}:1.7.12", "--ca-file", "nowhere.pem").returncode == 2


@pytest.mark.slow
def test_a_download_survives_a_cdn_that_cuts_every_connection(mar: Registry, run: Run) -> None:
    data = bytes(range(256)) * 4096 * 16
    mar.add_artifact("aks/long", "1", ("long.bin", data))
    mar.on("data").cuts_after((1 << 20) + 1)
    done = run("pull", "aks/long:1", "--quiet")
    assert done.returncode == 0, done.stderr
    assert mar.kinds().count("data") > 12


@pytest.mark.slow
@pytest.mark.parametrize("words", [["resolve", f"{ALB}:1.7.12"], ["serve", "layout"]], ids=["a command", "serve"])
def test_a_signal_while_loading_gives_the_exit_code_of_the_signal(mar: Registry, tmp_path: Path, words: list[str]) -> None:
    mar.on("manifest").stalls_before_headers()
    (tmp_path / "layout").mkdir()
    codes = set()
    for number in range(12):
        line = [sys.executable, "-m", "marfetch", *words]
        process = subprocess.Popen(
            line, cwd=tmp_path, env=surroundings(mar, tmp_path / "cache"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        signal.sigtimedwait([], 0.02 + number * 0.01)
        process.terminate()
        codes.add(process.wait(30))
    # Before the handlers are installed, the signal kills the process; `serve` may report the empty layout first.
    assert codes <= {-signal.SIGTERM, *([0, 2, 5] if words[0] == "serve" else [143])}


def test_a_signal_turned_into_another_exception_is_still_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from marfetch import cli
    from marfetch.__main__ import main

    def run(_: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)
        except KeyboardInterrupt as error:
            raise RuntimeError("an error in `__set_name__`") from error  # Python 3.11 wraps the exception in the same way
        return 0

    monkeypatch.setattr(cli, "run", run)
    assert main(["resolve", "aks/foo:1"]) == 143
    assert "ended by SIGTERM" in capsys.readouterr().err
