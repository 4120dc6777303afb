"""Other hosts than the endpoint's, signals, a full disk, and real programs."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from marfetch.layout.layout import Layout
from marfetch.reference import Host

from ..world.command import line, until
from ..world.registry import Registry
from ..world.rows import row
from ..world.tls import server_context
from .scene import CHART, Scene, answers, asking

pytestmark = pytest.mark.slow


class _Echo(BaseHTTPRequestHandler):
    """Answers with the request: method, path, body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = f"{self.command} {self.path} {self.rfile.read(length).decode()} {self.headers.get('Proxy-Authorization')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(scene: Scene, ca: trustme.CA) -> Iterator[int]:
    """The port of a web server that is `other.test` over https, and 127.0.0.1 over http."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Echo) for _ in range(2)]
    servers[0].socket = server_context(ca.issue_cert("other.test")).wrap_socket(servers[0].socket, server_side=True)
    scene.proxy.leads["other.test"] = servers[0].server_port
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    yield servers[1].server_port
    for server in servers:
        server.shutdown()
        server.server_close()


def test_other_hosts_pass_through_the_callers_proxy(scene: Scene, elsewhere: int) -> None:
    plain = f"POST http://127.0.0.1:{elsewhere}/a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET http://127.0.0.1:{elsewhere}/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    summary = ("--summary", "s.json")
    done = scene.record(*asking(["GET", "/x", {}], plain), ASKED_HOST="other.test", options=summary)
    assert done.returncode == 0, done.stderr
    tunneled, relayed = answers(done)
    assert tunneled[2] == "GET /x  None"
    assert "POST /a?b hi None" in relayed
    assert "GET /c  None" in relayed
    assert "CONNECT other.test:443 HTTP/1.1" in scene.proxy.asked
    data = json.loads((scene.place / "s.json").read_text())["data"]
    assert data["otherHosts"] == [
        {"host": f"127.0.0.1:{elsewhere}", "connections": 2, "allowed": True},
        {"host": "other.test:443", "connections": 1, "allowed": True},
    ]
    assert "1 connection to `other.test:443`" in done.stderr
    assert "made no request to `mcr.microsoft.com`" in done.stderr

    code = "import os, sys, urllib.request as u\ntry: u.urlopen(sys.argv[1])\nexcept OSError as error: print(error)"
    refused = scene.replay(sys.executable, "-c", code, f"http://127.0.0.1:{elsewhere}/", options=summary)
    assert refused.returncode == 8
    assert "403" in refused.stdout
    missing = json.loads((scene.place / "s.json").read_text())["data"]["missing"]
    assert missing == [{"request": f"127.0.0.1:{elsewhere}", "count": 1}]
    allowed = scene.replay(sys.executable, "-c", code, f"http://127.0.0.1:{elsewhere}/", options=("--allow", "127.0.0.1"))
    assert (allowed.returncode, allowed.stdout) == (0, "")
    tunnel = scene.replay(
        *asking(["GET", "/y", {}]), options=("--allow", "*.test"), ASKED_HOST="other.test", HTTPS_PROXY=scene.environment()["HTTPS_PROXY"]
    )
    assert answers(tunnel)[0][2] == "GET /y  None"


def test_a_host_that_cannot_be_reached_is_named(scene: Scene) -> None:
    done = scene.record(*asking("CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n"))
    assert done.returncode == 0
    assert answers(done)[0].startswith("HTTP/1.1 502 Bad Gateway")
    assert "warning: `nowhere.test:443` could not be reached for the command: the proxy answered 502" in done.stderr
    assert "secret" not in done.stderr


@row(
    "Y04",
    "SIGTERM, SIGHUP, and Ctrl-C with and without a terminal",
    "Passes it on, waits for the command, and leaves no file",
    code=(130, 143),
)
@pytest.mark.parametrize(
    ("number", "group", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGHUP, False, 143)],
)
def test_a_signal_ends_both_and_leaves_nothing(scene: Scene, number: signal.Signals, group: bool, code: int) -> None:
    temporary = scene.place / "tmp"
    temporary.mkdir()
    script = "trap 'echo ended > ended; exit 0' TERM INT HUP; touch begun; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        line("record", "-o", "x.tar", "--summary", "s.json", "--", "sh", "-c", script),
        cwd=scene.place,
        env=scene.environment(TMPDIR=str(temporary)),
        start_new_session=True,
    )
    until((scene.place / "begun").exists)
    assert [path.name[:12] for path in temporary.iterdir()] == ["marfetch-ca-"]
    (os.killpg if group else os.kill)(process.pid, number)
    assert process.wait(60) == code
    assert (scene.place / "ended").exists()
    assert list(temporary.iterdir()) == []
    assert not (scene.place / "x.tar").exists()
    assert not (scene.place / "s.json").exists()


@row("Y04", "`--timeout` is over", "Ends the command, and writes nothing", code=7)
def test_the_time_limit_ends_the_command(scene: Scene) -> None:
    done = scene.record("sleep", "60", options=("--timeout", "2"))
    assert done.returncode == 7
    assert not (scene.place / "x.tar").exists()


@row("Y05", "a limit on the size of files", "Answers the command with 507, and keeps no partial file", code=9)
def test_a_file_that_cannot_be_written_whole_is_9(scene: Scene) -> None:
    big = os.urandom(1 << 20)
    digest = f"sha256:{hashlib.sha256(big).hexdigest()}"
    scene.mar.blobs[digest] = big
    (scene.place / "x.tar").write_text("before")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))

    words = line("record", "-o", "x.tar", "--", *asking(["GET", f"/v2/{CHART}/blobs/{digest}", {}]))
    done = subprocess.run(
        words, cwd=scene.place, env=scene.environment(), preexec_fn=limit, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 9, done.stderr
    assert answers(done)[0][0] == 507
    assert (scene.place / "x.tar").read_text() != "before" or "x.tar" in done.stderr


# -- real programs


def tools(tool: Callable[[str], Path], place: Path) -> list[list[str]]:
    """The commands that fetch one chart, each with a real program."""
    reference = f"mcr.microsoft.com/{CHART}:1.7.12"
    for name in ("parent", "out"):
        (place / name).mkdir()
    (place / "parent" / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n- name: alb-controller\n  version: ^1.7\n"
        f"  repository: oci://mcr.microsoft.com/{CHART.rpartition('/')[0]}\n"
    )
    helm = [
        [str(tool(name)), *words.split()]
        for name in ("helm3", "helm4")
        for words in (
            f"pull oci://mcr.microsoft.com/{CHART} --version 1.7.12",
            f"template oci://mcr.microsoft.com/{CHART} --version ^1.7",
            "dependency update parent",
            "dependency build parent",
        )
    ]
    return [
        *helm,
        [str(tool("oras")), "pull", reference],
        [str(tool("crane")), "manifest", reference],
        [str(tool("crane")), "ls", f"mcr.microsoft.com/{CHART}"],
        [str(tool("regctl")), "artifact", "get", reference, "--output", "out"],
        [str(tool("skopeo")), "inspect", "--raw", f"docker://{reference}"],
        [str(tool("skopeo")), "copy", "--preserve-digests", f"docker://{reference}", "oci:copied:x"],
        [str(tool("curl")), "-sfo", "/dev/null", f"https://mcr.microsoft.com/v2/{CHART}/manifests/1.7.12"],
        [sys.executable, "-c", f"import requests; requests.get('https://mcr.microsoft.com/v2/{CHART}/tags/list').raise_for_status()"],
        line("pull", f"{CHART}:1.7.12", "-d", "ours", "--cache-dir", "ours-cache"),
    ]


@pytest.mark.tool
def test_real_programs_are_recorded_and_replayed(scene: Scene, tool: Callable[[str], Path]) -> None:
    script = scene.place / "all.sh"
    commands = tools(tool, scene.place)
    script.write_text(
        "\n".join(f"({subprocess.list2cmdline(one)}) >>log 2>&1 || echo FAILED {number} >>log" for number, one in enumerate(commands))
    )
    done = scene.record("sh", str(script))
    log = (scene.place / "log").read_text()
    assert "FAILED" not in log, log
    assert done.returncode == 0, done.stderr
    (scene.place / "log").unlink()
    done = scene.replay("sh", str(script))
    log = (scene.place / "log").read_text()
    assert "FAILED" not in log, log
    assert done.returncode == 0, done.stderr
    assert scene.run("bundle", "verify", "x.tar").returncode == 0


@pytest.mark.tool
def test_parallel_commands_give_the_same_recording(scene: Scene, tool: Callable[[str], Path]) -> None:
    oras = tool("oras")
    several = " & ".join(f"{oras} pull mcr.microsoft.com/{CHART}:{tag} -o {number}" for number, tag in enumerate(("1.7.12", "1.7.9") * 4))
    one_by_one = several.replace(" & ", " && ")
    assert scene.record("sh", "-c", f"{several} & wait").returncode == 0
    done = scene.record("sh", "-c", one_by_one, output="y.tar", cache="other")
    assert done.returncode == 0, done.stderr
    assert (scene.place / "x.tar").read_bytes() == (scene.place / "y.tar").read_bytes()


@pytest.mark.tool
def test_other_tools_read_a_recording(scene: Scene, tool: Callable[[str], Path]) -> None:
    half = f"mcr.microsoft.com/{CHART}:1.7.9"
    assert (
        scene.record(
            "sh", "-c", f"{tool('helm3')} pull oci://mcr.microsoft.com/{CHART} --version 1.7.12 && {tool('oras')} manifest fetch {half}"
        ).returncode
        == 0
    )
    digest = scene.document()["repositories"][CHART]["tags"]["1.7.12"]
    words = [str(tool("oras")), "manifest", "fetch", "--oci-layout", f"x.tar@{digest}"]
    fetched = subprocess.run(words, cwd=scene.place, capture_output=True, check=True)
    assert f"sha256:{hashlib.sha256(fetched.stdout).hexdigest()}" == digest
    loaded = scene.run("bundle", "load", "x.tar", "--to", "./layout")
    assert loaded.returncode == 0, loaded.stderr
    assert f"`{CHART}:1.7.9@" in loaded.stderr
    assert "1.7.12" in loaded.stdout
    assert "1.7.9" not in loaded.stdout
    inspected = json.loads(scene.run("bundle", "inspect", "x.tar", "--json").stdout)
    assert {one["version"] for one in inspected["data"]["artifacts"]} == {"1.7.12", "1.7.9"}


def test_a_marfetch_with_the_same_cache_is_recorded(scene: Scene) -> None:
    done = scene.record(*line("pull", f"{CHART}:1.7.12", "-d", "ours"), options=("--timeout", "30"))
    assert done.returncode == 0, done.stderr
    found = scene.document()["repositories"][CHART]
    assert (list(found["tags"]), len(found["blobs"])) == (["1.7.12"], 1)


@row("Y07", "a flipped bit in a blob", "Answers the command with 502", code=5)
def test_a_damaged_recording_gives_no_wrong_bytes(scene: Scene) -> None:
    digest = hashlib.sha256(b"x" * 5000).hexdigest()
    scene.mar.blobs[f"sha256:{digest}"] = b"x" * 5000
    blob = ["GET", f"/v2/{CHART}/blobs/sha256:{digest}", {}]
    assert scene.record(*asking(blob)).returncode == 0
    raw = bytearray((scene.place / "x.tar").read_bytes())
    raw[raw.index(b"x" * 5000) + 77] ^= 1
    (scene.place / "y.tar").write_bytes(raw)
    done = scene.replay(*asking(blob), file="y.tar")
    assert (done.returncode, answers(done)[0][0]) == (5, 502)
    assert scene.run("bundle", "verify", "y.tar").returncode == 5


def test_a_registry_of_ones_own_may_share_its_name_with_another_server(scene: Scene, recipe: Layout, ca: trustme.CA) -> None:
    with Registry(recipe, names=Host("mar.test"), context=server_context(ca.issue_cert("own.test")), redirect=False) as own:
        scene.proxy.leads["own.test"] = own.port
        options = ("--endpoint", "https://own.test:8443", "--summary", "s.json")
        tags = ["GET", f"/v2/{CHART}/tags/list", {}]
        done = scene.record(*asking(tags, "CONNECT own.test:443 HTTP/1.1\r\n\r\n"), options=options, ASKED_HOST="own.test:8443")
    assert done.returncode == 0, done.stderr
    assert answers(done)[1].startswith("HTTP/1.1 200")
    assert [one["host"] for one in json.loads((scene.place / "s.json").read_text())["data"]["otherHosts"]] == ["own.test:443"]
    assert answers(scene.replay(*asking(tags), ASKED_HOST="own.test:8443"))[0][0] == 200
    assert scene.replay("true", options=("--allow", "own.test")).returncode == 2
    assert scene.replay("true", options=("--allow", "own.test:443")).returncode == 0


def test_memory_stays_bounded(scene: Scene, tool: Callable[[str], Path]) -> None:
    big = os.urandom(1 << 20) * 200
    name = f"sha256:{hashlib.sha256(big).hexdigest()}"
    scene.mar.blobs[name] = big
    code = (
        "import re, sys; from marfetch.__main__ import main; code = main(sys.argv[1:]);"
        " print(re.search(r'VmHWM:\\s+([0-9]+)', open('/proc/self/status').read())[1], file=sys.stderr); sys.exit(code)"
    )
    fetch = [str(tool("curl")), "-sfo", "/dev/null", f"https://mcr.microsoft.com/v2/{CHART}/blobs/{name}"]
    for words in (["record", "-o", "x.tar"], ["replay", "x.tar"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--", *fetch], cwd=scene.place, env=scene.environment(), capture_output=True, text=True, timeout=100, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stderr.splitlines()[-1]) < 200_000, done.stderr
