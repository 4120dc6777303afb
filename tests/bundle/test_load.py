"""Load bundles into registries and folders: real ones, misleading ones, and refused ones."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.budget import Cancelled
from marfetch.bundle import targets
from marfetch.bundle.check import check_layout
from marfetch.bundle.create import create
from marfetch.bundle.format import opened
from marfetch.bundle.jobs import jobs_of
from marfetch.bundle.load import load, load_part
from marfetch.bundle.targets import Loaded, To
from marfetch.client.session import Session, SessionOptions
from marfetch.content import copy
from marfetch.errors import Error, InputError, IntegrityError, PolicyError, StorageError
from marfetch.oci import REF_NAME, Digest
from marfetch.project.sync import Shard

from ..world.answering import Answering, answering
from ..world.bundles import ITEMS, locked, members, rewritten
from ..world.content import ALB, IMAGE, MODULE
from ..world.layouts import Maker
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.real import distribution, run

Tool = Callable[[str], Path]
# "secret"
HTPASSWD = "somebody:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


@pytest.fixture
def bundle(client: Callable[..., Session], tmp_path: Path) -> Path:
    """Create a bundle that includes referrers."""
    create(client(), locked(client(), tmp_path / "project"), tmp_path / "a.tar", with_referrers=True)
    return tmp_path / "a.tar"


@pytest.fixture
def delta(client: Callable[..., Session], bundle: Path, tmp_path: Path) -> Path:
    newer = locked(client(), tmp_path / "project", f"reference: {ALB}, version: ~1.8", *ITEMS[1:])
    create(client(), newer, tmp_path / "b.tar", since=bundle, with_referrers=True)
    return tmp_path / "b.tar"


def loaded(path: Path, to: str, *, shard: Shard | None = None, **options: object) -> list[Loaded]:
    with Session(SessionOptions(**options), Heard()) as one:  # type: ignore[arg-type]
        return load(one, path, To.parse(to, plain_http=not to.startswith((".", "/"))), shard=shard)


def outcomes(found: list[Loaded]) -> list[str]:
    return [one.outcome for one in found]


# -- the value of `--to`


@pytest.mark.parametrize(
    ("text", "is_folder", "prefix"),
    [
        ("localhost:5000", False, ""),
        ("localhost/x", False, "x"),
        ("registry.example.com/a/b", False, "a/b"),
        ("registry.example.com/a/", False, "a"),
        ("127.0.0.1:5000", False, ""),
        ("./registry.example.com", True, ""),
        ("/srv/mirror", True, ""),
        ("mirror", True, ""),
        ("mirror/of.mar", True, ""),
    ],
)
def test_a_target_is_a_registry_or_a_folder(text: str, is_folder: bool, prefix: str) -> None:
    to = To.parse(text)
    assert ((to.endpoint is None), to.prefix) == (is_folder, prefix)
    assert to.repository("aks/foo") == (f"{prefix}/aks/foo" if prefix else "aks/foo")


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("mcr.microsoft.com", PolicyError, "push-refused"),
        ("mcr.microsoft.com:443/x", PolicyError, "push-refused"),
        ("MCR.microsoft.com/x", PolicyError, "push-refused"),
        ("eastus.data.mcr.microsoft.com", PolicyError, "push-refused"),
        ("https://mcr.microsoft.com", PolicyError, "push-refused"),
        ("mar://MCR.microsoft.com./x", PolicyError, "push-refused"),
        ("mcr.azure.cn", PolicyError, "push-refused"),
        ("http://localhost:5000", InputError, "usage"),
        ("oci://localhost:5000/x", InputError, "usage"),
        ("", InputError, "usage"),
        ("localhost:5000/Upper", InputError, "reference-invalid"),
        ("localhost:5000/a//b", InputError, "reference-invalid"),
        ("user@registry.example.com", InputError, None),
    ],
)
def test_a_refused_target(text: str, kind: type[Error], code: str | None) -> None:
    with pytest.raises(Error) as caught:
        To.parse(text)
    assert isinstance(caught.value, kind) or code is None
    assert code in (None, caught.value.code)


@pytest.mark.parametrize("host", ["mcr.microsoft.com", "*.data.mcr.microsoft.com", "MCR.AZURE.CN:443"])
def test_mar_is_refused_as_a_data_host(host: str) -> None:
    with pytest.raises(PolicyError) as caught:
        To.parse("registry.example.com", data_hosts=(host,))
    assert caught.value.code == "push-refused"


@pytest.mark.parametrize("host", ["registry.example.com", "192.0.2.17:5000", "[2001:db8::17]:5000"])
def test_plain_http_is_allowed_on_loopback_only(host: str) -> None:
    with pytest.raises(PolicyError) as caught:
        To.parse(host, plain_http=True)
    assert caught.value.exit_code == 4
    assert f"`https://{host}`" in caught.value.hint


@pytest.mark.parametrize("host", ["192.0.2.17", "192.0.2.17:5000", "[2001:db8::17]:5000"])
def test_the_target_may_be_an_ip_address(host: str) -> None:
    to = To.parse(f"{host}/mar", data_hosts=("192.0.2.18:5000",))
    assert to.endpoint is not None
    assert to.endpoint.registry.origin == f"https://{host}"
    assert to.prefix == "mar"


# -- a real registry


@pytest.mark.tool
def test_a_registry_gets_everything_and_other_tools_find_it(bundle: Path, registry: str, tool: Tool, tmp_path: Path) -> None:
    found = loaded(bundle, f"{registry}/mirror/mar")
    assert outcomes(found) == ["pushed"] * 3
    with opened(bundle) as held:
        assert held.lock is not None
        for entry in held.lock.entries:
            name = f"{registry}/mirror/mar/{entry.reference.repository}"
            assert run(tool("crane"), "digest", "--insecure", f"{name}:{entry.tag}").strip() == str(entry.digest)
            raw = run(tool("crane"), "manifest", "--insecure", f"{name}@{entry.digest}")
            assert Digest.of(raw.encode()) == entry.digest
    image = f"{registry}/mirror/mar/{IMAGE}:latest"
    assert "application/vnd.cncf.notary.signature" in run(tool("oras"), "discover", "--plain-http", image)
    chart = f"oci://{registry}/mirror/mar/{ALB}"
    (tmp_path / "helm").mkdir()
    run(tool("helm4"), "pull", chart, "--version", "1.7.12", "--plain-http", "-d", tmp_path / "helm")
    run(tool("regctl"), "manifest", "head", "--host", f"reg={registry},tls=disabled", f"{registry}/mirror/mar/{MODULE}:0.14.0")
    assert tarfile.is_tarfile(tmp_path / "helm" / "alb-controller-1.7.12.tgz")


@pytest.mark.tool
def test_a_second_load_uploads_nothing(bundle: Path, registry: str) -> None:
    loaded(bundle, registry)
    again = loaded(bundle, registry)
    assert outcomes(again) == ["unchanged"] * 3
    assert sum(one.blobs + one.size for one in again) == 0


@pytest.mark.tool
def test_a_delta_is_loaded_only_where_its_base_is(bundle: Path, delta: Path, registry: str, tool: Tool) -> None:
    with pytest.raises(PolicyError) as caught:
        loaded(delta, registry)
    assert (caught.value.code, caught.value.context["base"]) == ("base-missing", str(Digest.of(bundle.read_bytes())))
    assert (
        json.loads(
            run(
                "sh",
                "-c",
                f"{tool('crane')} catalog --insecure {registry} | python3 -c 'import json,sys; print(json.dumps(sys.stdin.read().split()))'",
            )
        )
        == []
    )
    loaded(bundle, registry)
    assert sorted(outcomes(loaded(delta, registry))) == ["pushed", "unchanged", "unchanged"]
    assert run(tool("crane"), "ls", "--insecure", f"{registry}/{ALB}").split() == ["1.7.12", "1.8.12"]
    assert sorted(outcomes(loaded(delta, registry))) == ["unchanged"] * 3


@pytest.mark.tool
def test_a_moved_tag_is_reported_as_replaced(bundle: Path, registry: str, tool: Tool) -> None:
    loaded(bundle, registry)
    run(tool("crane"), "tag", "--insecure", f"{registry}/{ALB}:1.7.12", "other")
    run(tool("crane"), "copy", "--insecure", f"{registry}/{MODULE}:0.14.0", f"{registry}/{ALB}:1.7.12")
    assert sorted(outcomes(loaded(bundle, registry))) == ["replaced", "unchanged", "unchanged"]


@pytest.mark.tool
def test_credentials_come_from_the_stores_of_docker_and_helm(
    bundle: Path, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marfetch.remote.credentials import forget_credentials

    with distribution(tool("registry"), tmp_path / "closed", htpasswd=HTPASSWD) as host:
        refused = loaded(bundle, host)
        assert {one.error.code if one.error else None for one in refused} == {"unauthorized"}
        auth = base64.b64encode(b"somebody:secret").decode()
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        forget_credentials()
        assert outcomes(loaded(bundle, host)) == ["pushed"] * 3
    forget_credentials()


@pytest.mark.tool
def test_shards_cover_everything_once(bundle: Path, registry: str) -> None:
    found = [one for index in range(2) for one in loaded(bundle, registry, shard=Shard(index, 2))]
    assert len({one.reference for one in found}) == len(found) == 3
    assert outcomes(loaded(bundle, registry)) == ["unchanged"] * 3


@pytest.mark.tool
def test_the_documented_indexed_job_loads_everything(bundle: Path, registry: str, tmp_path: Path) -> None:
    import yaml

    job = yaml.safe_load((ROOT / "docs" / "how-to" / "indexed-job.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (script,) = container["args"]
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in job["template"]["spec"]["volumes"]}
    assert "/bundle" in mounted
    line = script.replace("/bundle/charts.tar", str(bundle)).replace("registry.example.com/mar", f"{registry}/mar --plain-http")
    line = line.replace("exec marfetch", f"exec {sys.executable} -m marfetch")
    for index in range(job["completions"]):
        run(*container["command"], line, cwd=ROOT, JOB_COMPLETION_INDEX=str(index), MARFETCH_CACHE_DIR=str(tmp_path / "pods"))
    assert outcomes(loaded(bundle, f"{registry}/mar")) == ["unchanged"] * 3


@pytest.mark.tool
def test_the_hint_for_a_registry_without_tls(bundle: Path, registry: str) -> None:
    with Session(SessionOptions(), Heard()) as one:
        found = load(one, bundle, To.parse(registry))
    assert {one.error.hint if one.error else None for one in found} == {
        "if the registry on this machine does not use TLS, add `--plain-http`, or run `marfetch doctor`"
    }


@pytest.mark.tool
def test_a_batch_needs_only_strings_and_may_run_twice(bundle: Path, registry: str) -> None:
    with opened(bundle) as found:
        found.contents.load()
        jobs = jobs_of(found.contents)
    shared = json.dumps({"path": str(bundle), "to": registry, "plain": True, "hosts": [], "timeout": None, "ca": None, "command": "1"})
    asked = json.dumps({"shared": shared, "jobs": [job.to_json() for job in jobs]})
    assert [one[1] for one in json.loads(load_part(asked))] == ["pushed"] * 3
    assert [one[1] for one in json.loads(load_part(asked))] == ["unchanged"] * 3


@pytest.mark.tool
def test_a_killed_load_resumes(client: Callable[..., Session], bundle: Path, registry: str, tool: Tool) -> None:
    line = [sys.executable, "-m", "marfetch", "bundle", "load", str(bundle), "--to", registry, "--plain-http", "--jobs", "1"]
    for delay in (0.5, 0.7, 0.9):
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert "failed" not in outcomes(loaded(bundle, registry))
    assert outcomes(loaded(bundle, registry)) == ["unchanged"] * 3
    assert "notary" in run(tool("oras"), "discover", "--plain-http", f"{registry}/{IMAGE}:latest")


@pytest.mark.tool
def test_a_layout_written_by_oras_is_loaded(bundle: Path, registry: str, tool: Tool, tmp_path: Path) -> None:
    loaded(bundle, registry)
    run(tool("oras"), "copy", "-r", "--from-plain-http", f"{registry}/{IMAGE}:latest", "--to-oci-layout", f"{tmp_path / 'written'}:latest")
    found = loaded(tmp_path / "written", f"{registry}/again")
    assert "failed" not in outcomes(found)
    assert "notary" in run(tool("oras"), "discover", "--plain-http", f"{registry}/again/written:latest")


FOREIGN = {
    "oras backup, a folder": (False, "oras", "$T backup --plain-http --include-referrers -o written $R:latest"),
    "oras backup, a tar": (True, "oras", "$T backup --plain-http --include-referrers -o written.tar $R:latest"),
    "crane": (False, "crane", "$T pull --insecure --format oci $R:latest written"),
    "regctl": (False, "regctl", "$T image copy --host reg=$H,tls=disabled --referrers $R:latest ocidir://written:latest"),
    "regctl, a tar": (True, "regctl", "$T image export --host reg=$H,tls=disabled $R:latest written.tar"),
    "skopeo, a folder": (False, "skopeo", "$T copy --all --src-tls-verify=false docker://$R:latest oci:written:latest"),
    "skopeo, a tar": (True, "skopeo", "$T copy --all --src-tls-verify=false docker://$R:latest oci-archive:written.tar:latest"),
}
"""Commands of other tools that write a layout of `$R`, a signed image index in the registry `$H`."""


@pytest.mark.tool
@pytest.mark.parametrize("maker", FOREIGN)
def test_layouts_written_by_other_tools_are_loaded_and_served(bundle: Path, registry: str, tool: Tool, tmp_path: Path, maker: str) -> None:
    is_tar, program, script = FOREIGN[maker]
    loaded(bundle, registry)
    crane = tool("crane")
    digest = run(crane, "digest", "--insecure", f"{registry}/{IMAGE}:latest").strip()
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    run("sh", "-ec", script, cwd=tmp_path, T=str(tool(program)), R=f"{registry}/{IMAGE}", H=registry, **home)
    written = tmp_path / ("written.tar" if is_tar else "written")
    found = loaded(written, f"{registry}/again")
    assert "failed" not in outcomes(found)
    assert digest in {line.rpartition("@")[2] for line in (one.reference for one in found)}
    assert run(crane, "manifest", "--insecure", f"{registry}/again/written@{digest}") == run(
        crane, "manifest", "--insecure", f"{registry}/{IMAGE}@{digest}"
    )
    if program in ("oras", "regctl") and maker != "regctl, a tar":
        assert "notary" in run(tool("oras"), "discover", "--plain-http", f"{registry}/again/written@{digest}")
    line = [sys.executable, "-m", "marfetch", "serve", str(written), "--port", "0"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        host = process.stdout.readline().strip().removeprefix("http://")
        try:
            raw = run(crane, "manifest", "--insecure", f"{host}/written@{digest}")
            assert Digest.of(raw.encode()) == Digest.parse(digest)
        finally:
            process.terminate()


# -- loads that are refused before the first request


def test_nothing_of_a_broken_bundle_is_uploaded(bundle: Path, tmp_path: Path) -> None:
    def longest_blob(files: dict[str, bytes]) -> None:
        name = max((name for name in files if name.startswith("blobs/")), key=lambda name: len(files[name]))
        files[name] = b"?" + files[name][1:]

    rewritten(bundle, tmp_path / "x.tar", longest_blob)
    with pytest.raises(IntegrityError) as caught:
        loaded(tmp_path / "x.tar", str(tmp_path / "folder"))
    assert caught.value.code == "bundle-broken"
    assert not list((tmp_path / "folder").glob("blobs/*/*"))


@pytest.mark.parametrize("kept", ["marfetch.lock", "bundle.html"])
def test_a_bundle_without_its_record_is_not_loaded_as_a_plain_layout(bundle: Path, tmp_path: Path, kept: str) -> None:
    def stripped(files: dict[str, bytes]) -> dict[str, bytes]:
        return {name: data for name, data in files.items() if name == kept or name not in ("bundle.json", "marfetch.lock", "bundle.html")}

    rewritten(bundle, tmp_path / "x.tar", stripped)
    with pytest.raises(IntegrityError) as caught:
        loaded(tmp_path / "x.tar", str(tmp_path / "folder"))
    assert (caught.value.code, "bundle.json" in caught.value.message or "bundle.html" in caught.value.message) == ("bundle-broken", True)
    assert not (tmp_path / "folder").exists()


def test_index_entries_that_are_not_manifests_are_skipped(bundle: Path, tmp_path: Path) -> None:
    def foreign(files: dict[str, bytes]) -> dict[str, bytes]:
        index = json.loads(files["index.json"])
        unknown = {"mediaType": "application/vnd.example+xml", "digest": str(Digest.of(b"<x/>")), "size": 4}
        index["manifests"] += [unknown | {"annotations": {"org.opencontainers.image.ref.name": "mcr.microsoft.com/x/y:1"}}, unknown]
        changed = files | {"index.json": json.dumps(index).encode()}
        return {name: data for name, data in changed.items() if name not in ("bundle.json", "marfetch.lock", "bundle.html")}

    rewritten(bundle, tmp_path / "x.tar", foreign)
    assert outcomes(loaded(tmp_path / "x.tar", str(tmp_path / "folder"))) == ["pushed"] * 3


class _Astray(Answering):
    """Act as an empty registry that redirects every upload to another host."""

    location = "https://evil.example.com/upload"
    seen: list[str] = []  # noqa: RUF012 - each test sets a new list

    def head(self) -> None:
        self.say(404)

    def post(self) -> None:
        self.say(202, Location=self.location)

    def put(self) -> None:
        self.seen.append(self.path)
        self.say(201)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("https://evil.example.com/upload", "host-refused"),
        ("http://evil.example.com/upload", "address-refused"),
        ("http://127.0.0.1:1/upload", "host-refused"),
        ("http://localhost:1@evil.example.com/", "address-refused"),
        ("https://mcr.microsoft.com/v2/x/blobs/uploads/1", "push-refused"),
    ],
)
def test_an_upload_follows_no_location_outside_the_endpoint_or_at_mar(bundle: Path, location: str, code: str) -> None:
    handler = type("Handler", (_Astray,), {"location": location, "seen": []})
    with answering(handler) as port:
        found = loaded(bundle, f"127.0.0.1:{port}", jobs=1)
    assert {one.error.code if one.error else None for one in found} == {code}
    assert {one.error.exit_code if one.error else None for one in found} == {4}


# -- a folder


def test_a_folder_becomes_a_layout_with_the_same_manifests(bundle: Path, delta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(PolicyError):
        loaded(delta, str(folder))
    assert outcomes(loaded(bundle, str(folder))) == ["pushed"] * 3
    assert outcomes(loaded(bundle, str(folder))) == ["unchanged"] * 3
    assert sorted(outcomes(loaded(delta, str(folder)))) == ["pushed", "unchanged", "unchanged"]
    files = members(bundle) | members(delta)
    assert {str(path.relative_to(folder)) for path in folder.glob("blobs/*/*")} == {name for name in files if name.startswith("blobs/")}
    with opened(folder) as found:
        snapshot = found.contents.load()
    assert list(snapshot.repositories[ALB].tags) == ["1.7.12", "1.8.12"]
    assert snapshot.repositories[IMAGE].referrers


def test_corrupted_blobs_in_the_folder_are_replaced(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    loaded(bundle, str(folder))
    for number, path in enumerate(sorted(folder.glob("blobs/*/*"))):
        data = path.read_bytes()
        path.write_bytes(data[:-1] if number % 2 else bytes([data[0] ^ 1]) + data[1:])
    assert "failed" not in outcomes(loaded(bundle, str(folder)))
    assert {path.name for path in folder.glob("blobs/*/*") if Digest.of(path.read_bytes()).encoded != path.name} == set()


def test_a_delta_does_not_accept_corrupted_blobs_as_its_base(bundle: Path, delta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    loaded(bundle, str(folder))
    with opened(delta) as found:
        omitted = [folder / "blobs" / digest.algorithm / digest.encoded for digest in found.omitted]
    omitted[0].write_bytes(omitted[0].read_bytes()[:-1])
    before = omitted[0].read_bytes()
    with pytest.raises(PolicyError) as caught:
        loaded(delta, str(folder))
    assert (caught.value.code, omitted[0].read_bytes()) == ("base-missing", before)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_other_users_may_read_a_loaded_folder(bundle: Path, tmp_path: Path) -> None:
    loaded(bundle, str(tmp_path / "folder"))
    assert {
        stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "folder").rglob("*") if path.is_file() and path.suffix != ".lock"
    } == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "folder", *(tmp_path / "folder").rglob("*")] if path.is_dir()} == {
        0o755
    }


INDEXES = {
    "two platforms of one name": lambda index: [{**one, "annotations": {REF_NAME: "v1"}} for one in index["manifests"][:2]],
    "content in the index": lambda index: [{**index["manifests"][0], "data": "e30="}],
    "a version of the system": lambda index: [{**index["manifests"][0], "platform": {"os": "windows", "architecture": "amd64", "os.version": "10"}}],
    "an entry that is none": lambda index: [*index["manifests"], {"mediaType": "a/b"}],
}  # fmt: skip


@pytest.mark.parametrize("change", INDEXES.values(), ids=INDEXES)
def test_an_index_that_would_lose_content_is_not_rewritten(bundle: Path, tmp_path: Path, change: Callable[[Any], Any]) -> None:
    folder = tmp_path / "folder"
    loaded(bundle, str(folder))
    index = json.loads((folder / "index.json").read_bytes())
    (folder / "index.json").write_text(json.dumps({**index, "manifests": change(index)}))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(StorageError) as caught:
        loaded(bundle, str(folder))
    assert "index.json" in caught.value.message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_load_into_a_folder_can_be_canceled(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(SessionOptions(), Heard()) as one:

        def stopped(*words: Any, **options: Any) -> bool:
            one.budget.cancel()
            return copy(*words, **options)

        monkeypatch.setattr(targets, "copy", stopped)
        with pytest.raises(Cancelled):
            load(one, bundle, To.parse(str(tmp_path / "folder")))


def test_other_blobs_in_an_index_are_loaded_too(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "made")
    note = maker.blob(b"note")
    index = maker.index([maker.manifest("child", listed=False), note], "aks/foo:1")
    assert outcomes(loaded(maker.root, str(tmp_path / "out"))) == ["pushed"]
    assert {one["digest"] for one in (note, index)} <= {f"sha256:{path.name}" for path in (tmp_path / "out/blobs/sha256").iterdir()}
    with opened(tmp_path / "out") as found:
        assert check_layout(found).findings == []


def test_a_folder_with_other_content_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError):
        loaded(bundle, str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.tool
def test_skopeo_reads_a_bundle(bundle: Path, tool: Tool, tmp_path: Path) -> None:
    tool("skopeo")
    done = subprocess.run(
        [sys.executable, "-m", "marfetch", "bundle", "inspect", str(bundle), "--json"], cwd=ROOT, capture_output=True, check=True
    )
    chart = next(one for one in json.loads(done.stdout)["data"]["artifacts"] if one["kind"] == "chart")
    run("sh", "-c", chart["lines"]["skopeo"][0], cwd=tmp_path, PATH=os.environ["PATH"])
    assert Digest.of((tmp_path / "alb-controller" / "manifest.json").read_bytes()) == Digest.parse(chart["digest"])
