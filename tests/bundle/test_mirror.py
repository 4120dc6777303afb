"""Mirror a project into registries: real ones, and a look-alike of MAR that misbehaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.bundle import mirror as mirroring
from marfetch.bundle.clients import client_lines
from marfetch.bundle.mirror import Loaded, To, _job, mirror, mirror_part
from marfetch.client.session import Session
from marfetch.errors import Error
from marfetch.oci import Digest
from marfetch.project.lockfile import read_lock
from marfetch.project.roots import roots_of
from marfetch.project.sync import Shard

from ..world.bundles import locked
from ..world.command import Call, surroundings
from ..world.content import ALB, IMAGE, MODULE
from ..world.images import WEB, add_multi, add_naming_chart
from ..world.paths import ROOT
from ..world.real import run
from ..world.registry import Registry

Tool = Callable[[str], Path]
Client = Callable[..., Session]


def mirrored(client: Session, place: Path, to: str, *items: str, **options: object) -> list[Loaded]:
    return mirror(client, locked(client, place, *items), To.parse(to, plain_http=True), **options)  # type: ignore[arg-type]


def outcomes(found: list[Loaded]) -> list[str]:
    return [one.outcome for one in found]


@pytest.mark.tool
@pytest.mark.slow
def test_a_mirror_has_the_digests_of_upstream_and_real_tools_read_it(client: Client, registry: str, tool: Tool, tmp_path: Path) -> None:
    found = mirrored(client(), tmp_path / "project", f"{registry}/mar", with_referrers=True)
    assert outcomes(found) == ["pushed"] * 3
    assert {one.kind for one in found} == {"chart", "bicep", "disk-image"}
    crane, oras = tool("crane"), tool("oras")
    for entry in read_lock(tmp_path / "project" / "marfetch.lock").entries:
        name = f"{registry}/mar/{entry.reference.repository}"
        assert run(crane, "digest", "--insecure", f"{name}:{entry.tag}").strip() == str(entry.digest)
        assert Digest.of(run(crane, "manifest", "--insecure", f"{name}:{entry.tag}").encode()) == entry.digest
        run(crane, "pull", "--insecure", "--format", "oci", f"{name}@{entry.digest}", tmp_path / entry.name)
    # Distribution's registry has no referrers API, so the referrers are behind the fallback tag.
    assert "notary" in run(oras, "discover", "--plain-http", f"{registry}/mar/{IMAGE}:latest")
    assert any(tag.startswith("sha256-") for tag in run(crane, "ls", "--insecure", f"{registry}/mar/{IMAGE}").split())
    for helm in ("helm3", "helm4"):
        (tmp_path / helm).mkdir()
        line = ("pull", f"oci://{registry}/mar/{ALB}", "--version", "1.7.12", "--plain-http", "-d", tmp_path / helm)
        run(tool(helm), *line)
    assert (tmp_path / "helm3" / "alb-controller-1.7.12.tgz").read_bytes() == (
        tmp_path / "helm4" / "alb-controller-1.7.12.tgz"
    ).read_bytes()


@pytest.mark.tool
def test_a_second_run_asks_for_no_blob_and_uploads_nothing(client: Client, mar: Registry, registry: str, tmp_path: Path) -> None:
    first = mirrored(client(), tmp_path / "project", registry)
    assert sum(one.blobs for one in first) > 3
    mar.asked.clear()
    again = mirrored(client(cache_dir=tmp_path / "empty"), tmp_path / "project", registry)
    assert outcomes(again) == ["unchanged"] * 3
    assert sum(one.size for one in again) == 0
    assert "blob" not in mar.kinds()


@pytest.mark.tool
def test_a_dry_run_uploads_nothing(client: Client, registry: str, tool: Tool, tmp_path: Path) -> None:
    crane = tool("crane")
    planned = mirrored(client(), tmp_path / "project", registry, is_rehearsal=True)
    assert outcomes(planned) == ["would-push"] * 3
    assert run(crane, "catalog", "--insecure", registry).split() == []
    done = mirrored(client(), tmp_path / "project", registry)
    assert [(one.blobs, one.size, one.reference) for one in done] == [(one.blobs, one.size, one.reference) for one in planned]
    run(crane, "copy", "--insecure", f"{registry}/{MODULE}:0.14.0", f"{registry}/{ALB}:1.7.12")
    assert sorted(outcomes(mirrored(client(), tmp_path / "project", registry, is_rehearsal=True))) == [
        "unchanged",
        "unchanged",
        "would-replace",
    ]
    assert sorted(outcomes(mirrored(client(), tmp_path / "project", registry))) == ["replaced", "unchanged", "unchanged"]


@pytest.mark.tool
def test_wrong_bytes_never_reach_the_registry_and_the_others_do(
    client: Client, mar: Registry, registry: str, tool: Tool, tmp_path: Path
) -> None:
    project = locked(client(), tmp_path / "project")
    (chart,) = [entry for entry in read_lock(project.lock_path).entries if entry.kind == "chart"]
    layer = chart.layers[0].descriptor
    mar.on("data", layer.digest.encoded).answers_with(b"x" * layer.size)
    found = mirror(client(cache_dir=tmp_path / "empty"), project, To.parse(registry, plain_http=True))
    assert sorted(outcomes(found)) == ["failed", "pushed", "pushed"]
    (error,) = [one.error for one in found if one.error is not None]
    assert (error.code, error.exit_code) == ("digest-mismatch", 5)
    assert ALB not in run(tool("crane"), "catalog", "--insecure", registry)
    mar.honestly()
    assert sorted(outcomes(mirror(client(), project, To.parse(registry, plain_http=True)))) == ["pushed", "unchanged", "unchanged"]


@pytest.mark.tool
def test_a_corrupted_blob_in_the_cache_is_downloaded_again(client: Client, registry: str, tmp_path: Path) -> None:
    one = client()
    project = locked(one, tmp_path / "project")
    mirror(one, project, To.parse(f"{registry}/first", plain_http=True))
    (chart,) = [entry for entry in read_lock(project.lock_path).entries if entry.kind == "chart"]
    layer = chart.layers[0].descriptor
    path = one.cache.path(layer.digest)
    path.write_bytes(bytes(layer.size))
    assert outcomes(mirror(one, project, To.parse(f"{registry}/second", plain_http=True))) == ["pushed"] * 3
    assert Digest.of(path.read_bytes()) == layer.digest


@pytest.mark.tool
def test_large_blobs_leave_the_cache_and_shared_blobs_are_downloaded_once(
    client: Client, mar: Registry, registry: str, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "BESIDE_FROM", 100_000)
    large, small = b"a layer" * 20_000, b"a little layer"
    for name in ("one", "two"):
        mar.add_artifact(f"mirrored/{name}", "1.0.0", ("large.bin", large), ("small.bin", small), ("own.txt", name.encode()))
    one = client()
    project = locked(one, tmp_path / "project", "reference: mirrored/one", "reference: mirrored/two")
    mar.asked.clear()
    assert outcomes(mirror(one, project, To.parse(registry, plain_http=True))) == ["pushed"] * 2
    assert sum(str(Digest.of(large)) in str(asked) for asked in mar.asked if asked.kind == "blob") == 1
    assert one.cache.stamp(Digest.of(large)) is None
    assert one.cache.stamp(Digest.of(small)) is not None
    for name in ("one", "two"):
        assert run(tool("crane"), "blob", "--insecure", f"{registry}/mirrored/{name}@{Digest.of(large)}").encode() == large


@pytest.mark.tool
def test_shards_and_batches_of_workers_cover_everything(client: Client, mar: Registry, registry: str, tmp_path: Path) -> None:
    one = client()
    project = locked(one, tmp_path / "project")
    to = To.parse(registry, plain_http=True)
    halves = [each for index in range(2) for each in mirror(one, project, to, shard=Shard(index, 2))]
    assert len({each.reference for each in halves}) == len(halves) == 3
    config = mirroring._worker_config(
        one, project, read_lock(project.lock_path), To.parse(f"{registry}/w", plain_http=True), with_referrers=True
    )
    (tmp_path / "project" / "marfetch.yaml").unlink()  # workers need no files of this machine
    batch = json.dumps({"shared": config, "jobs": [_job([root]).to_json() for root in roots_of(read_lock(project.lock_path))]})
    assert [each[1] for each in json.loads(mirror_part(batch))] == ["pushed"] * 3
    assert [each[1] for each in json.loads(mirror_part(batch))] == ["unchanged"] * 3


@pytest.mark.tool
@pytest.mark.slow
def test_a_killed_mirror_resumes(client: Client, mar: Registry, registry: str, tmp_path: Path) -> None:
    project = locked(client(), tmp_path / "project")
    line = [sys.executable, "-m", "marfetch", "mirror", "-f", str(project.path), "--to", registry, "--plain-http", "--jobs", "1"]
    for delay in (0.4, 0.6, 0.8):
        process = subprocess.Popen(
            line, cwd=ROOT, env=surroundings(mar, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert "failed" not in outcomes(mirror(client(cache_dir=tmp_path / "killed"), project, To.parse(registry, plain_http=True)))
    assert outcomes(mirror(client(), project, To.parse(registry, plain_http=True))) == ["unchanged"] * 3


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["--to", "mcr.microsoft.com/x"], 4, "push-refused"),
        (["--to", "localhost:1/x", "--data-host", "eastus.data.mcr.microsoft.com"], 4, "push-refused"),
        (["--to", "./folder"], 2, "usage"),
        (["--to", "localhost:1", "--offline"], 7, "offline"),
        (["--to", "registry.example.com", "--plain-http"], 4, "address-refused"),
    ],
)
def test_what_a_mirror_refuses(call: Call, client: Client, tmp_path: Path, words: list[str], code: int, name: str) -> None:
    project = locked(client(), tmp_path / "project")
    done, out, _ = call("mirror", "-f", project.path, *words, "--json")
    assert (done, json.loads(out)["error"]["code"]) == (code, name)
    assert not Path("folder").exists()


def test_a_missing_or_unfit_lock_is_refused(call: Call, client: Client, tmp_path: Path) -> None:
    project = locked(client(), tmp_path / "project")
    project.path.write_text(project.path.read_text().replace("~1.7", "~1.6"))
    assert call("mirror", "-f", project.path, "--to", "localhost:1", "--plain-http")[0] == 8
    project.lock_path.unlink()
    assert call("mirror", "-f", project.path, "--to", "localhost:1", "--plain-http")[0] == 8


@pytest.mark.tool
def test_the_command_prints_what_clients_need(call: Call, client: Client, registry: str, tmp_path: Path) -> None:
    project = locked(client(), tmp_path / "project", f"reference: {ALB}, version: ~1.7")
    code, out, _ = call("mirror", "-f", project.path, "--to", f"{registry}/mar", "--plain-http", "--json")
    assert (code, list(json.loads(out)["data"]["next"])) == (0, ["helm", "flux"])
    _, out, err = call("mirror", "-f", project.path, "--to", f"{registry}/mar", "--plain-http")
    assert out.startswith(f"unchanged\t{registry}/mar/{ALB}:1.7.12@sha256:")
    assert f"helm pull oci://{registry}/mar/{ALB} --version 1.7.12 --plain-http" in err
    assert "BICEP" not in err


def lines(to: str, *loaded: tuple[str, str], plain: bool = False) -> dict[str, list[str]]:
    digest = "sha256:" + "0" * 64
    return client_lines(To.parse(to, plain_http=plain), [Loaded(f"{name}@{digest}", "pushed", kind=kind) for name, kind in loaded])


def test_clients_get_lines_only_for_kinds_that_were_loaded() -> None:
    assert lines("registry.example.com/mar", ("registry.example.com/mar/aks/x:1", "image")) == {}
    assert lines("./folder", ("aks/x:1", "chart")) == {}
    failed = Loaded("registry.example.com/x:1", "failed", error=Error("no", code="internal"), kind="chart")
    assert client_lines(To.parse("registry.example.com"), [failed]) == {}


def test_the_alias_of_bicep_points_to_the_mirror() -> None:
    (config, trusted) = lines("registry.example.com:5000/mar", (f"registry.example.com:5000/mar/{MODULE}:0.14.0", "bicep"))["bicep"]
    alias = json.loads(config.removeprefix("bicepconfig.json: "))["moduleAliases"]["br"]["public"]
    assert alias == {"registry": "registry.example.com:5000", "modulePath": "mar/bicep"}
    assert trusted == "export BICEP_TRUSTED_REGISTRIES=registry.example.com"
    assert len(lines("team.azurecr.io", (f"team.azurecr.io/{MODULE}:0.14.0", "bicep"))["bicep"]) == 1  # trusted without it


def test_powershell_and_helm_get_the_version_of_the_artifact() -> None:
    found = lines(
        "registry.example.com", ("registry.example.com/aks/x:1.0.0_b", "chart"), ("registry.example.com/psresource/az:5.1", "powershell")
    )
    assert found["helm"] == ["helm pull oci://registry.example.com/aks/x --version 1.0.0+b"]
    assert found["powershell"][0] == "marfetch pull psresource/az:5.1 --endpoint https://registry.example.com -d feed"


@pytest.mark.tool
def test_locked_images_are_mirrored_as_a_bundle_carries_them(
    client: Client, mar: Registry, registry: str, tool: Tool, tmp_path: Path
) -> None:
    index, children = add_multi(mar)
    whole, _ = add_multi(mar, "oss/whole", "1", docker=True)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", f"{mar.host}/oss/whole@{whole.digest}", "nginx:1")
    add_naming_chart(mar, f"{mar.host}/oss/whole:1", repository="charts/bar")
    project = locked(
        client(),
        tmp_path / "project",
        "reference: charts/foo, images: true, platforms: [linux/arm64, linux/amd64]",
        "reference: charts/bar, images: true",
    )
    to = To.parse(registry, plain_http=True)
    mar.asked.clear()
    dry = mirror(client(), project, to, is_rehearsal=True)
    assert outcomes(dry) == ["would-push"] * 4
    assert not [asked for asked in mar.asked if asked.kind == "blob" or asked.target.endswith("/manifests/2.1")]
    found = {one.reference.partition("@")[0]: one for one in mirror(client(), project, to)}
    web = found[f"{registry}/{WEB}:2.1"]
    assert (web.outcome, web.kind, web.reference.partition("@")[2]) == ("pushed", "image", str(children[1].digest))
    assert web.warning is not None
    assert f"refuses the index `{index.digest}`" in web.warning
    for one in children[:2]:
        assert run(tool("crane"), "digest", "--insecure", f"{registry}/{WEB}@{one.digest}").strip() == str(one.digest)
    assert run(tool("crane"), "digest", "--insecure", f"{registry}/oss/whole:1").strip() == str(whole.digest)
    assert {one.outcome for one in mirror(client(), project, to)} == {"unchanged"}
