"""`marfetch record` and `marfetch replay`, as processes with a command of their own."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from marfetch.demo.recipe import build
from marfetch.layout.layout import Layout
from marfetch.reference import Host

from ..world.rows import row
from .scene import CHART, Scene, answers, asking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return build(Layout(tmp_path_factory.mktemp("made") / "layout"), Host("mar.test"))


def manifest_of(scene: Scene, tag: str = "1.7.12") -> dict[str, Any]:
    """Return the manifest of a chart, read from the layout."""
    digest = next(one for name, one in scene.mar.layout.entries() if name == f"mar.test/{CHART}:{tag}").digest
    with scene.mar.layout.open(digest) as file:
        raw = file.read()
    return {**json.loads(raw), "digest": str(digest), "raw": raw}


def test_what_a_client_may_send(scene: Scene) -> None:
    manifest = manifest_of(scene)
    layer = manifest["layers"][0]
    blob, at = f"/v2/{CHART}/blobs/{layer['digest']}", f"/v2/{CHART}/manifests/1.7.12"
    done = scene.record(
        *asking(
            ["GET", "/v2/", {}],
            ["HEAD", at, {}],
            ["GET", at, {"If-None-Match": f'"{manifest["digest"]}"'}],
            ["GET", at, {"Accept": "*/*", "Authorization": "Bearer hush", "Cookie": "a=b"}],
            ["HEAD", blob, {}],
            ["GET", blob, {"Range": "bytes=10-19"}],
            ["GET", blob + "?secret=query", {"Expect": "100-continue"}],
            ["GET", f"/v2/{CHART}/tags/list?n=2", {}],
            ["GET", f"/v2/{CHART}/manifests/9.9.9", {}],
            ["GET", "/v2/no/such/tags/list", {}],
            ["GET", f"/v2/{CHART}/referrers/{manifest['digest']}", {}],
            ["POST", f"/v2/{CHART}/blobs/uploads/", {}, "x"],
            ["GET", "/v2/_catalog?n=3", {}],
            ["GET", "/api/v1/catalog", {}],
        ),
        options=("--summary", "s.json"),
    )
    assert done.returncode == 0, done.stderr
    base, head, same, whole, size, part, all_of_it, tags, no_tag, no_name, referrers, refused, catalog, foreign = answers(done)
    assert base[0] == 200
    assert (head[0], head[1]["docker-content-digest"], head[2]) == (200, manifest["digest"], "")
    assert int(head[1]["content-length"]) == len(manifest["raw"])
    assert (same[0], same[2]) == (304, "")
    assert whole[2].encode("latin-1") == manifest["raw"]
    assert int(size[1]["content-length"]) == layer["size"]
    assert hashlib.sha256(all_of_it[2].encode("latin-1")).hexdigest() == layer["digest"].partition(":")[2]
    assert (part[0], part[2]) == (206, all_of_it[2][10:20])
    assert len(json.loads(tags[2])["tags"]) == 2
    assert 'rel="next"' in tags[1]["link"]
    assert (no_tag[0], json.loads(no_tag[2])["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    assert (no_name[0], json.loads(no_name[2])["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert json.loads(referrers[2])["manifests"] == []
    assert refused[0] == 405
    assert len(json.loads(catalog[2])["repositories"]) == 3
    assert foreign[0] == 404
    summary = json.loads((scene.place / "s.json").read_text())
    assert (summary["ok"], summary["command"], summary["data"]["requests"]) == (True, "record", 14)
    assert [one["request"] for one in summary["data"]["refused"]] == [
        "GET https://mcr.microsoft.com/api/v1/catalog",
        f"POST https://mcr.microsoft.com/v2/{CHART}/blobs/uploads/",
    ]
    raw = (scene.place / "x.tar").read_bytes()
    assert not any(secret in raw for secret in (b"hush", b"secret", b"sig=", b"PRIVATE KEY"))
    assert scene.run("bundle", "verify", "x.tar").returncode == 0

    again = scene.replay(*asking(["GET", at, {}], ["GET", f"/v2/{CHART}/manifests/9.9.9", {}], ["GET", "/v2/no/such/tags/list", {}]))
    assert again.returncode == 0, again.stderr
    assert [one[0] for one in answers(again)] == [200, 404, 404]
    assert "missing" not in again.stderr


@row("Y02", "a tag, a tag list and a repository that were not recorded", "Answers the command with 404, and names each request", code=8)
def test_what_is_not_in_the_recording_is_named(scene: Scene) -> None:
    assert scene.record(*asking(["GET", f"/v2/{CHART}/manifests/1.7.12", {}])).returncode == 0
    wanted = ["GET", f"/v2/{CHART}/manifests/1.7.9", {}], ["GET", f"/v2/{CHART}/tags/list", {}], ["GET", "/v2/other/manifests/1", {}]
    done = scene.replay(*asking(*wanted), options=("--summary", "s.json"))
    assert done.returncode == 8
    assert [one[0] for one in answers(done)] == [404, 404, 404]
    summary = json.loads((scene.place / "s.json").read_text())
    assert (summary["ok"], summary["error"]["code"], summary["error"]["exitCode"]) == (False, "not-recorded", 8)
    assert [one["request"].partition("/v2/")[2] for one in summary["data"]["missing"]] == [
        f"{CHART}/manifests/1.7.9",
        f"{CHART}/tags/list",
        "other/manifests/1",
    ]
    assert f"missing: GET https://mcr.microsoft.com/v2/{CHART}/tags/list" in done.stderr


def test_the_same_answers_are_the_same_bytes(scene: Scene) -> None:
    layers = [manifest_of(scene, tag)["layers"][0]["digest"] for tag in ("1.7.12", "1.7.9")]
    requests = [["GET", f"/v2/{CHART}/manifests/{tag}", {}] for tag in ("1.7.12", "1.7.9")]
    requests += [["GET", f"/v2/{CHART}/blobs/{one}", {}] for one in layers]
    requests += [["GET", f"/v2/{CHART}/tags/list", {}], ["HEAD", f"/v2/{CHART}/blobs/{layers[0]}", {}]]
    assert scene.record(*asking(*requests)).returncode == 0
    assert scene.record(*asking(*reversed(requests)), output="y.tar", cache="other").returncode == 0
    assert scene.record(*asking(*requests), output="z.tar").returncode == 0
    first = (scene.place / "x.tar").read_bytes()
    assert first == (scene.place / "y.tar").read_bytes() == (scene.place / "z.tar").read_bytes()


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -TERM $$"], 143), (["/no/such/program"], 127), (["/etc/hostname"], 126)],
)
def test_the_exit_code_is_that_of_the_command(scene: Scene, command: list[str], code: int) -> None:
    done = scene.record(*command)
    assert done.returncode == code
    assert (scene.place / "x.tar").exists() is (code in (3, 143))


def test_a_command_without_requests_gets_a_warning(scene: Scene) -> None:
    done = scene.record("true")
    assert done.returncode == 0
    assert "warning: the command made no request to `mcr.microsoft.com`" in done.stderr
    assert done.stdout == ""
    assert scene.run("bundle", "verify", "x.tar").returncode == 0


def test_the_environment_of_the_command(scene: Scene) -> None:
    code = "import json, os; print(json.dumps([dict(os.environ), open(os.environ['SSL_CERT_FILE']).read()]))"
    done = scene.record(sys.executable, "-c", code, NO_PROXY="*", KEPT="yes")
    variables, pem = json.loads(done.stdout)
    proxies = {variables[name] for upper in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") for name in (upper, upper.lower())}
    assert len(proxies) == 1
    assert proxies.pop().startswith("http://127.0.0.1:")
    assert (variables["NO_PROXY"], variables["no_proxy"], variables["NODE_USE_ENV_PROXY"], variables["KEPT"]) == ("", "", "1", "yes")
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
    assert len({variables[name] for name in names}) == 1
    assert Path(scene.ca_file).read_text().strip() in pem
    assert pem.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in pem
    assert not Path(variables["SSL_CERT_FILE"]).exists()


@row(
    "Y01",
    "other bytes in a blob of 10 KiB and in one of 3 MiB",
    "Answers the command with 502, and cuts the response for the large one off",
    code=5,
)
def test_wrong_bytes_are_never_complete(scene: Scene) -> None:
    small = manifest_of(scene)["layers"][0]["digest"]
    big = b"x" * (3 << 20)
    digest = f"sha256:{hashlib.sha256(big).hexdigest()}"
    scene.mar.blobs[digest] = big
    scene.mar.blobs[small] = b"y" * manifest_of(scene)["layers"][0]["size"]
    scene.mar.on("data", path=digest[7:]).answers_with(b"x" * ((3 << 20) - 1) + b"z")
    requests = [["GET", f"/v2/{CHART}/blobs/{one}", {}] for one in (small, digest)]
    done = scene.record(*asking(["GET", f"/v2/{CHART}/manifests/1.7.12", {}], *requests))
    assert done.returncode == 5, done.stderr
    _, whole, cut = answers(done)
    assert whole[0] == 502
    assert cut[0] in (-1, 502)
    assert len(cut[2]) < len(big)
    assert "error: the bytes of the blob" in done.stderr
    assert scene.document()["repositories"][CHART]["blobs"] == {}


@pytest.mark.parametrize("module", ["marfetch", "tests.world.elsewhere"], ids=["here", "without what Windows lacks"])
def test_a_large_blob_is_sent_while_it_arrives(module: str, scene: Scene) -> None:
    scene = scene._replace(module=module)
    big = bytes(range(256)) * (20 << 12)
    digest = f"sha256:{hashlib.sha256(big).hexdigest()}"
    scene.mar.blobs[digest] = big
    blob = f"/v2/{CHART}/blobs/{digest}"
    scene.mar.on("data").resets_after(5 << 20, times=1)
    done = scene.record(*asking(["GET", blob, {}], ["GET", blob, {"Range": "bytes=-5"}]))
    assert done.returncode == 0, done.stderr
    whole, end = answers(done)
    assert whole[2].encode("latin-1") == big
    assert end[2].encode("latin-1") == big[-5:]
    assert answers(scene.replay(*asking(["GET", blob, {}])))[0][2] == whole[2]


@row(
    "Y03",
    "500 at every try; a request that the cache cannot answer with `--offline`",
    "Answers the command with 502, and records nothing",
    code=7,
)
def test_an_upstream_that_fails_is_7(scene: Scene) -> None:
    scene.mar.on("manifest").answers(500)
    done = scene.record(*asking(["GET", f"/v2/{CHART}/manifests/1.7.12", {}]), options=("--timeout", "20"))
    assert done.returncode == 7, done.stderr
    assert answers(done)[0][0] in (502, 504)
    assert scene.document()["repositories"] == {}
    offline = scene.record(*asking(["GET", f"/v2/{CHART}/manifests/1.7.12", {}]), options=("--offline",))
    assert offline.returncode == 7
    assert "--offline" in offline.stderr


@row(
    "Y06",
    "other ports of the registry, relative and ambiguous addresses, endless headers, early bytes",
    "Answers with 400, 403 or 431, and connects to nothing",
    code=0,
)
def test_the_proxy_takes_nothing_else(scene: Scene) -> None:
    connect = "CONNECT mcr.microsoft.com:443 HTTP/1.0\r\n\r\n"
    done = scene.record(
        *asking(
            connect,
            "CONNECT MCR.Microsoft.com.:443 HTTP/1.1\r\n\r\n",
            "CONNECT mcr.microsoft.com:80 HTTP/1.1\r\nHost: mcr.microsoft.com:80\r\n\r\n",
            "GET http://mcr.microsoft.com/v2/ HTTP/1.1\r\nHost: mcr.microsoft.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            "CONNECT mcr.microsoft.com HTTP/1.1\r\n\r\n",
            "CONNECT 127.1:443 HTTP/1.1\r\n\r\n",
            f"{connect}early",
            "GET / HTTP/1.1\r\nX: " + "x" * 70_000,
            "nonsense\r\n\r\n",
        )
    )
    starts = [one.partition("\r\n")[0].partition(" ")[2] for one in answers(done)]
    assert starts[:4] == ["200 Connection established", "200 Connection established", "403 Forbidden", "403 "], starts
    assert [one[:3] for one in starts[4:9]] == ["400", "400", "400", "400", "431"], starts
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["record", "-o", "x.tar", "--endpoint", "http://127.0.0.1:5000", "--", "true"], 2),
        (["record", "-o", "x.tar", "--endpoint", "https://localhost:5000", "--", "true"], 2),
        (["record", "-o", "x.tar", "--json", "--", "true"], 2),
        (["record", "-o", "x.tar"], 2),
        (["record", "--", "true", "-o", "x.tar"], 2),
        (["record", "-o", "-", "--", "true"], 2),
        (["record", "-o", "x.tar", "--summary", "./x.tar", "--", "true"], 2),
        (["record", "-o", ".", "--", "true"], 9),
        (["record", "-o", ".git/x.tar", "--", "true"], 4),
        (["record", "-o", "file/x.tar", "--", "true"], 9),
        (["replay", "none.tar", "--", "true"], 9),
        (["replay", "file", "--", "true"], 5),
    ],
)
def test_what_cannot_work_is_refused_before_the_command_runs(scene: Scene, words: list[str], code: int) -> None:
    (scene.place / "file").write_text("not a tar")
    done = scene.run(*[word if word != "true" else "touch" for word in words], *(["ran"] if "true" in words else []))
    assert done.returncode == code, done.stderr
    assert not (scene.place / "ran").exists()
    assert not (scene.place / "x.tar").exists()


def test_replay_refuses_what_is_no_recording_and_its_own_hosts(scene: Scene) -> None:
    assert scene.record("true").returncode == 0
    for host in ("mcr.microsoft.com", "eastus.data.mcr.microsoft.com:443", "*.data.mcr.microsoft.com", "a b"):
        assert scene.replay("true", options=("--allow", host)).returncode == 2, host
    assert scene.replay("true", HELM_PLUGIN_NAME="marfetch").returncode == 2
    assert scene.record("true", HELM_PLUGIN_NAME="marfetch").returncode == 2
    changed = bytearray((scene.place / "x.tar").read_bytes())
    changed[changed.index(b'"catalog": null') + 12] ^= 1
    (scene.place / "y.tar").write_bytes(changed)
    assert scene.replay("true", file="y.tar").returncode == 5
    assert scene.run("bundle", "verify", "y.tar").returncode == 5
