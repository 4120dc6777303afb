"""The commands: options, output, JSON and exit codes, each command in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from marfetch import __version__
from marfetch.oci import Digest

from ..world.command import Run, document, on_terminal
from ..world.content import ALB
from ..world.paths import ROOT
from ..world.registry import MSEDGE, Registry

# -- version, help and usage errors


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_name_and_version_are_one_line(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"marfetch {__version__}\n", "")


def test_the_version_as_json(run: Run) -> None:
    assert document(run("version", "--json"))["data"]["version"] == __version__


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["pull", "--help"], ["cache", "--help"], ["versions", "-h"]])
def test_help_shows_the_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert "Usage: marfetch" in done.stdout


@pytest.mark.slow
def test_every_command_and_option_has_help(run: Run) -> None:
    from marfetch.cli.help import COMMANDS

    overview = run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in overview
        for line in run(command, "--help").stdout.splitlines():
            if line.startswith("  -"):
                assert len(line.split("  ")) >= 3, f"{command}: {line}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull"], "missing argument"),
        (["nonsense"], "nonsense"),
        (["pull", "aks/foo", "--nonsense"], "--nonsense"),
        (["pull", "aks/foo", "--jobs", "many"], "--jobs"),
        (["pull", "aks/foo", "--jobs", "33"], "1 to 32"),
        (["pull", "aks/foo", "--jobs", "0"], "1 to 32"),
        (["pull", "aks/foo", "--timeout", "0"], "above 0"),
        (["pull", "aks/foo", "--timeout", "-1"], "above 0"),
        (["pull", "Aks/foo"], "`Aks`"),
        (["pull", "aks/foo:1", "--version", "^1"], "cannot be combined"),
        (["pull", f"aks/foo@{Digest.of(b'x')}", "--version", "1"], "cannot be combined"),
        (["pull", "aks/foo", "--version", "latest"], "`latest` is not a version range"),
        (["pull", "aks/foo", "--version", ""], "not a version range"),
        (["pull", "aks/foo", "--kind", "nonsense"], "`nonsense`"),
        (["pull", "aks/foo", "--platform", "linux"], "platform"),
        (["pull", "helm pull oci://mcr.microsoft.com/aks/foo --version 1", "--version", "2"], "pasted command"),
        (["pull", "aks/foo", "--endpoint", "nonsense"], "`nonsense`"),
        (["pull", "aks/foo", "--endpoint", "global", "--data-host", "x.example"], "--data-host"),
        (["pull", "aks/foo", "--ca-file", "none.pem", "--endpoint", "https://localhost:9"], "none.pem"),
        (["versions", "aks/foo:1"], "versions belong to a repository"),
        (["versions", "aks/foo", "--limit", "0"], "--limit"),
        (["cache", "nonsense"], "nonsense"),
    ],
)
def test_invalid_input_is_exit_2_and_named(run: Run, mar: Registry, arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert words.lower() in done.stderr.lower()
    assert "hint:" in done.stderr
    assert done.stdout == ""
    assert mar.asked == []
    failed = document(run(*arguments, "--json"))
    assert failed["error"]["code"] in ("usage", "reference-invalid", "constraint-invalid", "endpoint-invalid", "platform-invalid")
    assert failed["error"]["message"]


# -- pull


def test_pull_prints_path_digest_and_pinned_reference(run: Run, mar: Registry, tmp_path: Path) -> None:
    done = run("pull", ALB, "--version", "^1.7")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    path, digest, pinned = line.split("\t")
    assert path == "alb-controller-1.11.4.tgz"
    assert digest == str(Digest.of((tmp_path / "here" / path).read_bytes()))
    assert pinned.startswith(f"{mar.host}/{ALB}:1.11.4@sha256:")
    assert done.stderr.count("is not an official endpoint") == 1


def test_pull_as_json(run: Run, mar: Registry) -> None:
    first = document(run("pull", ALB, "bicep/avm/res/storage/storage-account", "--json", "-d", "sub/dir"))
    assert first["command"] == "pull"
    assert first["data"]["failed"] == []
    chart, module = first["data"]["files"]
    assert chart["path"] == "sub/dir/alb-controller-1.11.4.tgz"
    assert chart["mediaType"] == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    assert chart["status"] == "fetched"
    assert chart["size"] > 0
    assert chart["digest"].startswith("sha256:")
    assert chart["reference"].startswith(f"{mar.host}/{ALB}:1.11.4@sha256:")
    assert module["path"] == "sub/dir/storage-account-0.14.0.json"
    again = document(run("pull", ALB, "--json", "-d", "sub/dir"))
    assert [file["status"] for file in again["data"]["files"]] == ["unchanged"]


def test_all_references_are_tried_and_the_first_failure_is_the_exit_code(run: Run) -> None:
    done = run("pull", "aks/none:1", ALB, "dotnet/aspnet:6.0", "--json")
    assert done.returncode == 3
    result = document(done)
    assert [file["path"] for file in result["data"]["files"]] == ["alb-controller-1.11.4.tgz"]
    assert [(failed["reference"], failed["code"]) for failed in result["data"]["failed"]] == [
        ("aks/none:1", "repository-not-found"),
        ("dotnet/aspnet:6.0", "image-refused"),
    ]
    assert all(failed["message"] and failed["hint"] for failed in result["data"]["failed"])
    assert result["error"]["code"] == "repository-not-found"
    assert done.stderr.count("error:") == 2
    text = run("pull", "aks/none:1", ALB, "dotnet/aspnet:6.0")
    assert text.returncode == 3
    assert len(text.stdout.splitlines()) == 1


def test_a_name_clash_is_exit_9_before_any_blob_request(run: Run, mar: Registry) -> None:
    mar.add_artifact("aks/one", "1", ("x.bin", b"one"))
    mar.add_artifact("aks/two", "1", ("x.bin", b"two"))
    done = run("pull", "aks/one:1", "aks/two:1", "--json")
    assert done.returncode == 9
    assert {failed["code"] for failed in document(done)["data"]["failed"]} == {"name-clash"}
    assert set(mar.kinds()) == {"manifest"}


def test_a_different_file_is_exit_9_and_force_overwrites_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "here" / "alb-controller-1.7.12.tgz"
    path.write_bytes(b"mine")
    done = run("pull", f"{ALB}:1.7.12")
    assert done.returncode == 9
    assert "--force" in done.stderr
    assert path.read_bytes() == b"mine"
    assert run("pull", f"{ALB}:1.7.12", "--force").returncode == 0
    assert path.read_bytes() != b"mine"


def test_a_pasted_helm_command_is_parsed_and_noted(run: Run, mar: Registry) -> None:
    line = f"helm install alb oci://{mar.host}/{ALB} --version 1.7.9 --namespace x"
    done = run("pull", line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alb-controller-1.7.9.tgz\t")
    assert f"`{mar.host}/{ALB}` in the range `1.7.9`" in done.stderr


@pytest.mark.slow
def test_provenance_platform_kind_and_media_type(run: Run) -> None:
    done = run("pull", "azure-application-gateway/charts/ingress-azure:1.9.1", "--prov")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["ingress-azure-1.9.1.tgz.prov", "ingress-azure-1.9.1.tgz"]
    image = "azurelinux/3.0/image/minimal-os:3.0.20250910"
    asked = run("pull", image)
    assert asked.returncode == 2
    assert "`linux/amd64`, `linux/arm64`" in asked.stderr
    assert run("pull", image, "--platform", "linux/riscv64").returncode == 3
    assert run("pull", image, "--platform", "linux/arm64").stdout.startswith("image.vhdx\t")
    assert run("pull", f"{ALB}:1.7.12", "--kind", "bicep").returncode == 4
    assert run("pull", f"{ALB}:1.7.12", "--artifact-type", "application/vnd.ms.*").returncode == 4
    assert run("pull", f"{ALB}:1.7.12", "--kind", "chart", "--artifact-type", "*helm*").returncode == 0
    assert run("pull", f"{ALB}:1.7.12", "--media-type", "text/*").returncode == 3
    assert run("pull", "dotnet/aspnet:6.0").returncode == 4
    assert run("pull", "dotnet/aspnet:6.0", "--all-layers").returncode == 0


@pytest.mark.slow
def test_exit_codes_of_refusals_and_failures(run: Run, mar: Registry) -> None:
    bare = {"MARFETCH_ENDPOINT": "", "MARFETCH_DATA_HOSTS": ""}
    assert run("pull", "evil.example/aks/foo:1", environment=bare).returncode == 4
    assert run("pull", "mcr.microsoft.com/aks/foo:1", "--endpoint", "china", environment=bare).returncode == 4
    assert run("pull", "http://mcr.microsoft.com/aks/foo:1", environment=bare).returncode == 4
    assert run("pull", f"{mar.host}/{ALB}:1.7.12", environment=bare).returncode == 4  # without `--data-host`
    assert run("pull", f"{mar.host}/{ALB}:1.7.12", "--data-host", mar.data_host, environment=bare).returncode == 0
    assert run("pull", f"{ALB}:1.7.12@{Digest.of(b'x')}").returncode == 5
    assert run("pull", f"{ALB}:1.7.9", "--offline").returncode == 7
    assert run("pull", "localhost:9/aks/foo:1").returncode == 7
    mar.on("manifest").answers(429, retry_after="3600")
    throttled = run("pull", f"{ALB}:1.7.9")
    assert throttled.returncode == 7
    assert "3600 s (at " in throttled.stderr
    assert f"X-Msedge-Ref: {MSEDGE}" in throttled.stderr


@pytest.mark.slow
def test_a_registry_cannot_steer_the_terminal(run: Run, mar: Registry) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202eok\r\n"
    mar.on("manifest").answers(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": evil}]}))
    mar.tags["aks/foo"] = json.dumps({"tags": ["1.0.0"]}).encode()
    for arguments in (["pull", "aks/foo:1"], ["resolve", "aks/foo"], ["versions", "aks/foo", "--details"], ["pull", "aks/foo:1", "--json"]):
        done = run(*arguments)
        assert not any(ord(c) < 32 and c not in "\n\t" for c in done.stdout + done.stderr)
        assert "\u202e" not in done.stdout + done.stderr


def test_quiet_prints_only_failures(run: Run) -> None:
    environment = {"MARFETCH_QUIET_TEST": "1"}
    done = run("pull", f"{ALB}:1.7.12", "--quiet", environment=environment)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("warning:")] == []


def test_verbose_logs_requests_without_secrets(run: Run, mar: Registry) -> None:
    done = run("pull", f"{ALB}:1.7.12", "--verbose")
    assert f"GET http://{mar.host}/v2/{ALB}/manifests/1.7.12" in done.stderr
    assert "sig=" not in done.stderr


# -- resolve and versions


def test_resolve_pins_and_downloads_no_blob(run: Run, mar: Registry) -> None:
    done = run("resolve", ALB, "--version", "~1.7")
    assert done.stdout.startswith(f"{mar.host}/{ALB}:1.7.12@sha256:")
    assert set(mar.kinds()) == {"tags", "manifest"}
    data = document(run("resolve", ALB, "--version", "~1.7", "--json"))["data"]
    assert data["tag"] == "1.7.12"
    assert data["version"] == "1.7.12"
    assert data["repository"] == f"{mar.host}/{ALB}"
    assert data["reference"] == f"{mar.host}/{ALB}:1.7.12@{data['digest']}"
    assert data["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("arguments", "requests"),
    [
        (["--version", "1.7.12"], ["manifest"]),
        (["--version", "=1.7.12"], ["manifest"]),
        (["--version", "0.4.23901"], ["manifest", "tags", "manifest"]),
        (["--version", "^1.7"], ["tags", "manifest"]),
        ([], ["tags", "manifest"]),
    ],
)
def test_an_exact_version_requests_no_tag_list(run: Run, mar: Registry, arguments: list[str], requests: list[str]) -> None:
    assert run("resolve", ALB, *arguments).returncode == 0
    assert mar.kinds() == requests


def test_an_exact_version_takes_three_requests_a_cached_tag_one_a_cached_digest_none(run: Run, mar: Registry, tmp_path: Path) -> None:
    done = run("pull", ALB, "--version", "1.7.12")
    assert mar.kinds() == ["manifest", "blob", "data"]
    digest = done.stdout.rstrip().rpartition("@")[2]
    (tmp_path / "here" / "alb-controller-1.7.12.tgz").unlink()
    mar.asked.clear()
    assert run("pull", f"{ALB}:1.7.12").returncode == 0
    assert mar.kinds() == ["manifest"]
    mar.asked.clear()
    assert run("pull", f"{ALB}@{digest}").returncode == 0
    assert mar.asked == []


@pytest.mark.parametrize(
    ("repository", "arguments", "code", "words"),
    [
        (ALB, ["--version", "^9"], 3, "the newest released version is `1.11.4`"),
        (ALB, ["--version", "9.9.9"], 3, "the newest released version is `1.11.4`"),
        ("azuremonitor/containerinsights/cidev/prometheus-collector", [], 3, "--devel"),
        ("azuremonitor/containerinsights/cidev/prometheus-collector", ["--devel"], 0, ""),
        ("aks/ghost-repo", [], 3, "does not know"),
        ("aks/ghost-repo", ["--version", "1.2.3"], 3, "does not know"),
    ],
)
def test_an_unmatched_range_is_exit_3_with_the_newest_version(
    run: Run, repository: str, arguments: list[str], code: int, words: str
) -> None:
    done = run("resolve", repository, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_a_repository_without_versions_suggests_a_tag(run: Run, mar: Registry) -> None:
    mar.tags["aks/moving"] = json.dumps({"tags": ["2024-01-02", "latest"]}).encode()
    done = run("resolve", "aks/moving")
    assert done.returncode == 3
    assert "`:latest`" in done.stderr
    mar.tags["aks/other"] = json.dumps({"tags": ["stable"]}).encode()
    assert "`:stable`" in run("pull", "aks/other").stderr


def test_a_wrong_tag_names_similar_tags(run: Run) -> None:
    failed = document(run("pull", f"{ALB}:1.7.13", "--json"))["error"]
    assert failed["code"] == "tag-not-found"
    assert "1.7.12" in failed["nearest"]


@pytest.mark.slow
def test_a_tag_without_manifest_is_named_with_the_next_best_version(run: Run, mar: Registry) -> None:
    tags = ["1.11.4", "1.12.0", "1.7.12"]
    mar.tags[ALB] = json.dumps({"tags": tags}).encode()
    for arguments in (["--version", "^1"], []):
        done = run("resolve", ALB, *arguments)
        assert done.returncode == 3
        assert "`1.12.0`" in done.stderr
        assert "`1.11.4`" in done.stderr
    exact = run("resolve", ALB, "--version", "1.12.0")
    assert exact.returncode == 3
    assert "listed but has no manifest" in exact.stderr
    skipped = run("resolve", ALB, "--skip-missing")
    assert skipped.returncode == 0
    assert ":1.11.4@" in skipped.stdout
    assert "warning:" in skipped.stderr
    assert "listed but has no manifest" in run("resolve", f"{ALB}:1.12.0").stderr


@pytest.mark.slow
def test_versions_are_listed_newest_first(run: Run, mar: Registry) -> None:
    tags = ["1.0.0", "v2.9.0", "0.4.023901", "1.9.1_build.5", "2.0.0-preview4", "latest", "2024-01-02", "v1.0.0"]
    mar.tags["aks/foo"] = json.dumps({"tags": tags}).encode()
    done = run("versions", "aks/foo")
    assert done.stdout.splitlines() == [
        "2.9.0\tv2.9.0",
        "2.0.0-preview4\t2.0.0-preview4",
        "1.9.1+build.5\t1.9.1_build.5",
        "1.0.0\t1.0.0",
        "0.4.23901\t0.4.023901",
    ]
    assert run("versions", "aks/foo", "--all").stdout.splitlines()[5:] == ["-\tlatest", "-\t2024-01-02"]
    data = document(run("versions", "aks/foo", "--json"))["data"]
    assert next(one["version"] for one in data["versions"]) == "2.9.0"
    assert data["versions"][3] == {"version": "1.0.0", "tag": "1.0.0", "prerelease": False, "aliases": ["v1.0.0"]}
    assert data["other"] == ["latest", "2024-01-02"]
    assert run("versions", "aks/foo", "--version", "^1").stdout.splitlines() == ["1.9.1+build.5\t1.9.1_build.5", "1.0.0\t1.0.0"]


def test_a_tag_list_without_versions_is_empty_and_exit_0(run: Run, mar: Registry) -> None:
    mar.tags["aks/moving"] = json.dumps({"tags": ["latest"]}).encode()
    done = run("versions", "aks/moving")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_versions_with_details(run: Run, mar: Registry) -> None:
    done = run("versions", "azure-application-gateway/charts/ingress-azure", "--details")
    first = done.stdout.splitlines()[0].split("\t")
    assert first[0] == "1.9.1"
    assert first[2].startswith("sha256:")
    assert first[5] == "1.9.1"  # the app version from the chart's config
    aspnet = document(run("versions", "azurelinux/3.0/image/minimal-os", "--details", "--json"))["data"]["versions"][0]
    assert aspnet["size"] is None
    assert aspnet["mediaType"] == "application/vnd.oci.image.index.v1+json"


def test_the_end_of_life_is_shown(run: Run, mar: Registry) -> None:
    subject = mar.add_artifact("aks/old", "1.0.0", ("x.bin", b"x"))
    refers = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}
    for created, ends in (("2025-01-01T00:00:00Z", "2026-01-01"), ("2025-02-01T00:00:00Z", "2024-11-12T00:00:00Z")):
        notes = {"org.opencontainers.image.created": created, "vnd.microsoft.artifact.lifecycle.end-of-life.date": ends}
        kind = "application/vnd.microsoft.artifact.lifecycle"
        mar.add_artifact("aks/old", f"mark-{created[:7]}", (None, b"{}"), subject=refers, artifactType=kind, annotations=notes)
    data = document(run("versions", "aks/old", "--details", "--json"))["data"]["versions"]
    assert [(one["version"], one["endOfLife"]) for one in data] == [("1.0.0", "2024-11-12")]


@pytest.mark.slow
def test_details_are_limited_and_failures_are_warnings(run: Run, mar: Registry) -> None:
    mar.on("manifest", path="/1.11.4$").answers(404)
    done = run("versions", ALB, "--details", "--limit", "2")
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0][2] == "-"
    assert lines[1][2].startswith("sha256:")
    assert lines[2][2] == "-"
    assert "`1.11.4`" in done.stderr
    assert len(lines) == 9


# -- endpoints, cache and demo


def test_endpoints_lists_what_a_firewall_must_allow(run: Run, mar: Registry) -> None:
    done = run("endpoints")
    assert done.returncode == 0
    for text in (
        "mcr.microsoft.com", "*.data.mcr.microsoft.com", "mcr.azure.cn", "*.data.mcr.azure.cn", "MicrosoftContainerRegistry",
        "AzureFrontDoor.FirstParty", "US West-Central", "mirrors", "create-ticket",
    ):  # fmt: skip
        assert text in done.stdout
    data = document(run("endpoints", "--json"))["data"]
    assert [rule["host"] for rule in data["hosts"]] == [
        "mcr.microsoft.com",
        "*.data.mcr.microsoft.com",
        "mcr.azure.cn",
        "*.data.mcr.azure.cn",
    ]
    assert len(data["registryLocations"]) == 11
    assert mar.asked == []


@pytest.mark.slow
def test_the_cache_commands(run: Run, tmp_path: Path) -> None:
    run("pull", ALB)
    info = document(run("cache", "info", "--json"))["data"]
    assert info["path"] == str(tmp_path / "cache")
    assert info["names"] == 1
    assert info["blobs"] == 2
    assert run("cache", "verify").returncode == 0
    blob = max((tmp_path / "cache" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"other")
    broken = run("cache", "verify", "--json")
    assert broken.returncode == 5
    assert document(broken)["data"]["bad"][0]["name"] == f"sha256:{blob.name}"
    assert run("cache", "verify", "--fix").returncode == 0
    assert run("cache", "verify").returncode == 0
    assert run("cache", "prune", "--unused-days", "30").returncode == 0
    assert run("cache", "clear").returncode == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_the_demo_passes_all_steps(run: Run) -> None:
    done = run("demo", environment={"MARFETCH_ENDPOINT": "", "HTTPS_PROXY": "http://127.0.0.1:9"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 5" in done.stdout
    assert "unexpected result" not in done.stdout
    data = document(run("demo", "--json", environment={"MARFETCH_ENDPOINT": ""}))["data"]
    assert data["passed"] is True


# -- streams


@pytest.mark.slow
def test_a_closed_pipe_ends_the_command_silently(mar: Registry, tmp_path: Path) -> None:
    mar.tags["aks/many"] = json.dumps({"tags": [f"1.0.{n}" for n in range(50_000)]}).encode()
    line = f"{sys.executable} -m marfetch versions {mar.host}/aks/many | head -1"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "1.0.49999\t1.0.49999\n"
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.parametrize("close", [">&-", "2>&-", "</dev/null >&- 2>&-"])
def test_closed_streams_are_harmless(mar: Registry, tmp_path: Path, close: str) -> None:
    line = f"{sys.executable} -m marfetch pull {mar.host}/{ALB}:1.7.12 --data-host {mar.data_host} -d {tmp_path / 'out'} {close}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "alb-controller-1.7.12.tgz").is_file()


def test_a_full_disk_under_stdout_is_exit_9(mar: Registry, tmp_path: Path) -> None:
    line = f"{sys.executable} -m marfetch versions {mar.host}/{ALB} > /dev/full"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 9
    assert "disk is full" in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_locale_without_unicode_works(run: Run, mar: Registry, locale: str) -> None:
    mar.add_artifact("aks/uml", "1", ("ü.txt", b"x"))
    done = run(
        "pull", "aks/uml:1", environment={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_on_a_terminal_the_last_line_is_the_next_command(mar: Registry, tmp_path: Path) -> None:
    environment = {"MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host, "TERM": "xterm"}
    code, out, seen = on_terminal(["pull", ALB, "--version", "~1.7"], environment, tmp_path)
    assert code == 0
    assert out.startswith("alb-controller-1.7.12.tgz\t")
    lines = [line.rstrip() for line in seen.splitlines() if line.strip()]
    assert lines[-1].endswith("helm install alb ./alb-controller-1.7.12.tgz")
    assert any("`1.11.4` is newer than `1.7.12`, but not in the range" in line for line in lines)


@pytest.mark.slow
def test_on_a_terminal_a_long_transfer_shows_a_bar(mar: Registry, tmp_path: Path) -> None:
    data = b"x" * (1 << 20)
    mar.add_artifact("aks/slow", "1", ("slow.bin", data))
    mar.on("data").drips(64 * 1024, 0.08)
    environment = {"MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host, "TERM": "xterm", "COLUMNS": "100"}
    code, _, seen = on_terminal(["pull", "aks/slow:1"], environment, tmp_path)
    assert code == 0
    assert "slow.bin" in seen
    assert "MiB" in seen
    quiet_code, _, quiet = on_terminal(["pull", "aks/slow:1", "--quiet", "--force"], environment, tmp_path)
    assert quiet_code == 0
    assert "MiB" not in quiet
