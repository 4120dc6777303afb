"""Mirror a project into registries that answer in unusual ways."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch.bundle.mirror import Loaded, To, mirror
from marfetch.client.session import Session
from marfetch.project.lockfile import read_lock
from marfetch.remote.credentials import forget_credentials

from ..world.bundles import locked
from ..world.command import Call
from ..world.content import ALB
from ..world.images import WEB, add_multi, add_naming_chart
from ..world.pushed import Answer, PushedTo, accepting
from ..world.registry import Registry

Client = Callable[..., Session]


@pytest.fixture
def target() -> Iterator[PushedTo]:
    with accepting(PushedTo()) as state:
        yield state


def mirrored(client: Session, place: Path, target: PushedTo, *items: str, prefix: str = "", **options: object) -> list[Loaded]:
    return mirror(client, locked(client, place, *items), To.parse(f"{target.host}{prefix}", plain_http=True), **options)  # type: ignore[arg-type]


def outcomes(found: list[Loaded]) -> list[str]:
    return [one.outcome for one in found]


def when(method: str, part: str, status: int, times: int = 1_000_000, **headers: str) -> Callable[[str, str], Answer | None]:
    """Return what answers requests of a method with a part in their target."""
    left = [times]

    def odd(asked: str, target: str) -> Answer | None:
        if asked != method or part not in target or not left[0]:
            return None
        left[0] -= 1
        return status, {name.replace("_", "-"): value for name, value in headers.items()}

    return odd


def test_tags_come_last_and_a_second_run_sends_one_request_per_manifest(client: Client, target: PushedTo, tmp_path: Path) -> None:
    found = mirrored(client(), tmp_path / "project", target, prefix="/team/mar/2")
    assert outcomes(found) == ["pushed"] * 3
    assert all(one.reference.startswith(f"{target.host}/team/mar/2/") for one in found)
    writes = ["manifest" if "/manifests/" in name else "blob" for method, name in target.asked if method in ("POST", "PUT")]
    assert writes == sorted(writes)
    target.asked.clear()
    assert outcomes(mirrored(client(), tmp_path / "project", target, prefix="/team/mar/2")) == ["unchanged"] * 3
    assert target.methods == {"HEAD": 5}  # two artifacts, and an index with two manifests


@pytest.mark.parametrize("has_api", [True, False])
def test_a_dry_run_with_referrers_writes_nothing_and_foresees_the_run(
    client: Client, target: PushedTo, tmp_path: Path, has_api: bool
) -> None:
    target.has_referrers_api = has_api
    planned = mirrored(client(), tmp_path / "project", target, with_referrers=True, is_rehearsal=True)
    assert set(target.methods) <= {"HEAD", "GET"}
    done = mirrored(client(), tmp_path / "project", target, with_referrers=True)
    assert outcomes(planned) == ["would-push"] * 3
    assert [(one.reference, one.blobs, one.size) for one in planned] == [(one.reference, one.blobs, one.size) for one in done]
    fallback = [key for key in target.manifests if key[1].startswith("sha256-")]
    assert bool(fallback) is not has_api
    for key in fallback:
        del target.manifests[key]
    target.asked.clear()
    planned = mirrored(client(), tmp_path / "project", target, with_referrers=True, is_rehearsal=True)
    assert set(target.methods) <= {"HEAD", "GET"}
    done = mirrored(client(), tmp_path / "project", target, with_referrers=True)
    assert outcomes(planned) == ["would-push" if one == "pushed" else one for one in outcomes(done)]
    assert outcomes(done) == ["unchanged", "unchanged" if has_api else "pushed", "unchanged"]


def test_a_dry_run_foresees_that_an_index_is_refused_again(client: Client, mar: Registry, target: PushedTo, tmp_path: Path) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    item = "reference: charts/foo, images: true, platforms: [linux/arm64, linux/amd64]"
    assert outcomes(mirrored(client(), tmp_path / "project", target, item, is_rehearsal=True)) == ["would-push"] * 2
    first = mirrored(client(), tmp_path / "project", target, item)
    assert first[1].warning is not None
    target.asked.clear()
    planned = mirrored(client(), tmp_path / "project", target, item, is_rehearsal=True)
    assert set(target.methods) == {"HEAD"}
    again = mirrored(client(), tmp_path / "project", target, item)
    assert outcomes(again) == ["unchanged"] * 2
    assert [(one.reference, one.outcome, one.blobs, one.size) for one in planned] == [
        (one.reference, one.outcome, one.blobs, one.size) for one in again
    ]


def test_a_registry_that_mounts_nothing_gets_the_bytes(client: Client, mar: Registry, target: PushedTo, tmp_path: Path) -> None:
    for name in ("one", "two"):
        mar.add_artifact(f"mirrored/{name}", "1.0.0", ("shared.bin", b"shared"), ("own.txt", name.encode()))
    items = ("reference: mirrored/one", "reference: mirrored/two")
    target.odd = when("POST", "mount=", 403)
    assert outcomes(mirrored(client(), tmp_path / "project", target, *items, prefix="/refused")) == ["pushed"] * 2
    target.odd, target.mounts = when("", "", 0), False
    assert outcomes(mirrored(client(), tmp_path / "project", target, *items, prefix="/ignored")) == ["pushed"] * 2
    assert sum("mount=" in name for _, name in target.asked) >= 2


@pytest.mark.parametrize(
    ("method", "part", "status", "code"),
    [
        ("POST", "/uploads/", 201, "push-failed"),  # it claims to have what it was not sent
        ("HEAD", "/blobs/", 201, "unexpected-answer"),
        ("HEAD", "/manifests/", 405, "unexpected-answer"),
        ("PUT", "/manifests/", 413, "push-failed"),
        ("PUT", "/uploads/", 401, "unauthorized"),
    ],
)
def test_odd_answers_fail_without_a_tag(
    client: Client, target: PushedTo, tmp_path: Path, method: str, part: str, status: int, code: str
) -> None:
    target.odd = when(method, part, status)
    found = mirrored(client(), tmp_path / "project", target)
    assert [one.error.code if one.error else "" for one in found] == [code] * 3
    assert not target.manifests


def test_a_head_without_a_digest_is_followed_by_a_get(client: Client, target: PushedTo, tmp_path: Path) -> None:
    mirrored(client(), tmp_path / "project", target)
    target.odd = when("HEAD", "/manifests/", 200)
    target.asked.clear()
    assert outcomes(mirrored(client(), tmp_path / "project", target)) == ["unchanged"] * 3
    assert target.methods == {"HEAD": 5, "GET": 5}


@pytest.mark.parametrize(("method", "part"), [("HEAD", "/manifests/"), ("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")])
def test_a_throttled_target_is_waited_for(client: Client, target: PushedTo, tmp_path: Path, method: str, part: str) -> None:
    target.odd = when(method, part, 429, times=2, Retry_After="1")
    assert outcomes(mirrored(client(), tmp_path / "project", target)) == ["pushed"] * 3


def test_what_is_gone_upstream_fails_alone(call: Call, client: Client, mar: Registry, target: PushedTo, tmp_path: Path) -> None:
    project = locked(client(), tmp_path / "project")
    (chart,) = [entry for entry in read_lock(project.lock_path).entries if entry.kind == "chart"]
    mar.on("data", chart.layers[0].descriptor.digest.encoded).has_status(404)
    words = ("mirror", "-f", project.path, "--to", target.host, "--plain-http", "--json")
    code, out, _ = call(*words)
    document = json.loads(out)
    assert (code, document["error"]["code"]) == (3, "blob-not-found")
    assert [one["outcome"] for one in document["data"]["artifacts"]] == ["pushed"] * 2
    assert [set(one) for one in document["data"]["failed"]] == [{"reference", "code", "message", "hint"}]
    assert not any(ALB in name for name in target.tags())
    assert "helm" not in document["data"]["next"]
    mar.honestly()
    code, out, _ = call(*words)
    assert (code, sorted(one["outcome"] for one in json.loads(out)["data"]["artifacts"])) == (0, ["pushed", "unchanged", "unchanged"])
    assert set(json.loads(out)["data"]) == set(document["data"])


def test_only_the_target_gets_its_credentials(
    client: Client, mar: Registry, target: PushedTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = base64.b64encode(b"somebody:secret").decode()
    (tmp_path / "docker").mkdir()
    config = {"auths": {target.host: {"auth": secret}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    forget_credentials()
    target.login = f"Basic {secret}"
    assert outcomes(mirrored(client(), tmp_path / "project", target)) == ["pushed"] * 3
    assert not [asked for asked in mar.asked if "authorization" in {name.lower() for name in asked.headers}]
    forget_credentials()


def test_each_repository_needs_one_token(client: Client, target: PushedTo, tmp_path: Path) -> None:
    target.granted = "pull,push"
    assert outcomes(mirrored(client(jobs=1), tmp_path / "project", target)) == ["pushed"] * 3
    tokens = [name for _, name in target.asked if name.startswith("/token")]
    assert len(tokens) == 3
    assert all(name.endswith("%3Apull%2Cpush") for name in tokens)


@pytest.mark.parametrize("is_strict", [True, False])
def test_a_token_that_allows_no_upload_is_enough_for_a_dry_run(client: Client, target: PushedTo, tmp_path: Path, is_strict: bool) -> None:
    target.granted, target.is_strict = "pull", is_strict
    assert outcomes(mirrored(client(), tmp_path / "project", target, is_rehearsal=True)) == ["would-push"] * 3
    found = mirrored(client(), tmp_path / "project", target)
    assert [one.error.exit_code if one.error else 0 for one in found] == [7] * 3
    assert not target.blobs
