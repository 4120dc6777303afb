"""The library as other programs use it: results, requests, side effects and errors of each call."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import marfetch
import marfetch.library
from marfetch import Client, Constraint, Error, Reference
from marfetch.errors import InputError, IntegrityError, NotFoundError, PolicyError, RateLimitedError, RemoteError, SignatureError
from marfetch.oci import OCI_INDEX, Descriptor, descriptor_json

from ..world.command import Call, until
from ..world.content import ALB, IMAGE, MODULE
from ..world.paths import ROOT
from ..world.registry import Registry
from ..world.signed import AT, Signed
from ..world.signing import cose, payload, policy

Make = Callable[..., Client]


@pytest.fixture(autouse=True)
def _surroundings(mar: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(offline=True, …)` returns a client. The fixture closes it."""
    made: list[Client] = []

    def new(**options: Any) -> Client:
        made.append(Client(**options))
        return made[-1]

    yield new
    for one in made:
        one.close()


# -- names and signatures


SIGNATURES = {
    "Client": "(*, endpoint: str | None = None, data_hosts: _Texts = (), cache_dir: _StrPath | None = None, offline: bool = False, "
    "timeout: float | None = None, jobs: int = 16, ca_file: _StrPath | None = None, "
    "progress: Callable[[str], object] | bool | None = None) -> None",
    "close": "(self) -> None",
    "inspect": "(self, reference: str | Reference, version: str | None = None) -> ArtifactInfo",
    "pull": "(self, reference: str | Reference, version: str | None = None, to: _StrPath = ., untar: bool = False, kind: _Texts | None = None, "
    "media_type: _Texts | None = None, platform: str | None = None, verify: bool = False, force: bool = False) -> list[PulledFile]",
    "read": "(self, reference: str | Reference, version: str | None = None, kind: _Texts | None = None, media_type: _Texts | None = None) -> bytes",
    "resolve": "(self, reference: str | Reference, version: str | None = None, devel: bool = False) -> ResolvedReference",
    "search": "(self, text: str, kind: _Texts | None = None) -> list[RepositoryInfo]",
    "verify": "(self, reference: str | Reference, *, trust_policy: _StrPath | None = None, trust_store: _StrPath | None = None, "
    "at: str | datetime | None = None, crl: _StrPath | Iterable[_StrPath] | None = None, revocation: str | None = None, "
    "keyring: _StrPath | None = None, platform: str | None = None) -> VerifiedArtifact",
    "versions": "(self, repository: str | Reference) -> list[VersionInfo]",
}


def test_the_public_names_and_signatures_are_these() -> None:
    assert marfetch.__all__ == ["Client", "Constraint", "Error", "Reference"]
    assert set(marfetch.__all__) <= set(dir(marfetch))
    calls = {name: value for name, value in vars(Client).items() if not name.startswith("_")} | {"Client": Client}
    # The annotations are strings, so remove the quotes.
    found = {name: str(inspect.signature(value)).replace("'", "") for name, value in calls.items()}
    assert found == SIGNATURES
    assert [name for name in marfetch.library.__all__ if not inspect.isclass(getattr(marfetch.library, name))] == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'marfetch' has no attribute 'client_of'"):
        marfetch.client_of  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        exec("from marfetch import NothingOfThisName")


# -- the results are the same as those of the command line


def as_json(value: Any) -> Any:
    """Convert a value to JSON with the keys of the command line, without empty values."""
    if isinstance(value, (Path, Reference)):
        return str(value)
    if is_dataclass(value):
        pairs = {re.sub("_(.)", lambda match: match[1].upper(), one.name): getattr(value, one.name) for one in fields(value)}
        return as_json(pairs)
    if hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items() if one not in (None, (), [], {})}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return value


def said(call: Call, *words: object) -> Any:
    """Run a command with `--json`, and return its `data`."""
    code, out, _ = call(*words, "--json")
    assert code == 0, out
    return json.loads(out)["data"]


@pytest.mark.parametrize("reference", [f"{ALB}:1.7.12", IMAGE, f"{IMAGE}:latest", MODULE, "psresource/az.accounts", "dotnet/aspnet:6.0"])
def test_an_inspection_has_the_fields_of_the_json(make: Make, call: Call, reference: str) -> None:
    found = make().inspect(reference)
    document = said(call, "inspect", reference)
    assert as_json(found) == as_json(document)
    assert {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name) for name in document} == {one.name for one in fields(found)}
    with pytest.raises(FrozenInstanceError):
        found.kind = "chart"  # type: ignore[misc]


def test_versions_resolutions_and_files_have_the_fields_of_the_json(make: Make, call: Call) -> None:
    client = make()
    assert as_json(client.versions(ALB)) == as_json(said(call, "versions", ALB)["versions"])
    assert [type(one.prerelease) for one in client.versions(ALB)] == [bool] * len(client.versions(ALB))
    found = client.resolve(ALB, version="^1.7")
    assert as_json(found) == said(call, "resolve", ALB, "--version", "^1.7")
    assert isinstance(found.reference, Reference)
    assert as_json(client.pull(ALB, "1.7.12", to="one")) == [
        one | {"path": "one/alb-controller-1.7.12.tgz"} for one in said(call, "pull", f"{ALB}:1.7.12", "-d", "two")["files"]
    ]


@pytest.mark.parametrize(("text", "kind"), [("charts", None), ("charts", "chart"), ("*", "bicep"), ("alb-controler", None)])
def test_a_search_has_the_fields_of_the_json(make: Make, call: Call, text: str, kind: str | None) -> None:
    found = make().search(text, kind=kind)
    assert found
    assert as_json(found) == as_json(said(call, "search", text, *(["--kind", kind] if kind else []))["repositories"])


def test_a_verification_has_the_fields_of_the_json(make: Make, call: Call, signed: Signed, config: Path) -> None:
    signed.sign()
    signed.mark("2030-01-01")
    found = make().verify(signed.reference, at=AT, revocation="skip")
    document = said(call, "verify", signed.reference, "--at", AT, "--revocation", "skip")
    assert as_json(found) == as_json(document)
    assert {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name) for name in document} == {one.name for one in fields(found)}
    assert found.verdict == "verified"
    assert found.signatures[0].checks["integrity"].outcome == "passed"
    at = datetime.fromisoformat(AT)
    assert make().verify(signed.reference, at=at, revocation="skip") == found
    with pytest.raises(InputError, match="has no time zone"):
        make().verify(signed.reference, at=at.astimezone(UTC).replace(tzinfo=None))


def test_references_are_text_or_values(make: Make) -> None:
    client = make()
    reference = Reference.parse(f"oci://{ALB}")
    assert client.versions(reference) == client.versions(ALB)
    pinned = client.resolve(reference, "1.7.12").reference
    assert client.read(pinned) == client.read(str(pinned)) == client.read(f"{ALB}:1.7.12")
    assert Constraint.parse("^1.7").allows(client.resolve(ALB, "^1.7").version or "")


def test_a_chart_is_unpacked_and_kept_when_it_differs(make: Make, tmp_path: Path) -> None:
    client = make()
    (chart,) = client.pull(ALB, version="1.7.12", to=tmp_path / "charts", untar=True)
    assert (chart.path, chart.kind, chart.status) == (tmp_path / "charts" / "alb-controller", "chart", "fetched")
    assert (chart.path / "Chart.yaml").is_file()
    (file,) = client.pull(ALB, version="1.7.12", kind=["chart"], media_type="*helm*")
    assert file.path == Path("alb-controller-1.7.12.tgz")
    file.path.write_text("mine")
    with pytest.raises(Error) as failure:
        client.pull(ALB, version="1.7.12")
    assert failure.value.code == "file-differs"
    assert client.pull(ALB, version="1.7.12", force=True)[0].status == "fetched"
    with pytest.raises(PolicyError) as refused:
        client.pull(ALB, version="1.7.12", kind="bicep,powershell")
    assert refused.value.code == "kind-refused"


# -- read


def test_a_payload_is_read_from_the_cache_where_it_is_there(make: Make, mar: Registry) -> None:
    client = make()
    (file,) = client.pull(f"{ALB}:1.7.12")
    mar.asked.clear()
    assert client.read(f"{ALB}:1.7.12") == file.path.read_bytes()
    assert mar.kinds() == ["manifest"]
    assert client.read(ALB, version="1.7.12", kind="chart", media_type="application/vnd.cncf.helm.chart*") == file.path.read_bytes()
    assert set(mar.kinds()) == {"manifest"}


def test_several_payloads_are_an_error_that_names_them(make: Make, mar: Registry) -> None:
    mar.add_artifact("aks/two", "1.0.0", ("one.txt", b"1"), ("two.txt", b"2"))
    with pytest.raises(InputError) as failure:
        make().read("aks/two:1.0.0")
    assert (failure.value.code, failure.value.exit_code) == ("payload-ambiguous", 2)
    assert "`one.txt`, `two.txt`" in failure.value.message
    assert failure.value.context["names"] == ["one.txt", "two.txt"]
    assert not {"blob", "data"} & set(mar.kinds())


def test_a_payload_that_is_too_large_is_refused_before_it_is_asked_for(make: Make, mar: Registry) -> None:
    layer = {**descriptor_json(mar.add_blob(b"large")), "size": (256 << 20) + 1}
    mar.add_artifact("aks/large", "1.0.0", layers=[layer])
    with pytest.raises(PolicyError) as failure:
        make().read("aks/large:1.0.0")
    assert failure.value.code == "limit-passed"
    assert not {"blob", "data"} & set(mar.kinds())


def test_bytes_that_were_changed_in_the_cache_are_fetched_anew(make: Make, mar: Registry, tmp_path: Path) -> None:
    client = make()
    right = client.read(f"{ALB}:1.7.12")
    digest = client.inspect(f"{ALB}:1.7.12").layers[0].digest
    blob = tmp_path / "cache" / "blobs" / "sha256" / digest.partition(":")[2]
    blob.chmod(0o600)
    blob.write_bytes(b"x" * len(right))
    assert client.read(f"{ALB}:1.7.12") == right
    mar.on("data").answers_with(b"x" * len(right))
    blob.write_bytes(b"x" * len(right))
    with pytest.raises(IntegrityError):
        client.read(f"{ALB}:1.7.12")


# -- requests


def test_nothing_is_asked_before_the_first_call(make: Make, mar: Registry, tmp_path: Path) -> None:
    client = make()
    with client:
        pass
    assert (mar.asked, mar.connections, (tmp_path / "cache").exists()) == ([], 0, False)


def test_a_second_pull_asks_for_no_blob_and_needs_no_new_connection(make: Make, mar: Registry) -> None:
    client = make()
    assert [one.status for one in client.pull(ALB, version="^1.7")] == ["fetched"]
    connections = mar.connections
    mar.asked.clear()
    assert [one.status for one in client.pull(ALB, version="^1.7")] == ["unchanged"]
    client.resolve(ALB)
    assert not {"blob", "data"} & set(mar.kinds())
    assert mar.connections == connections
    with pytest.raises(NotFoundError):
        client.resolve("aks/nothing:1.0.0")
    client.versions(ALB)
    assert mar.connections == connections, "the connection stays open after a failure"


def test_each_call_sees_what_is_new(make: Make, mar: Registry) -> None:
    client = make()
    mar.add_artifact("aks/new", "1.0.0", ("a.txt", b"a"))
    assert [one.tag for one in client.versions("aks/new")] == ["1.0.0"]
    mar.add_artifact("aks/new", "1.1.0", ("a.txt", b"b"))
    assert [one.tag for one in client.versions("aks/new")] == ["1.1.0", "1.0.0"]
    assert client.read("aks/new") == b"b"
    mar.add_artifact("aks/new", "1.1.0", ("a.txt", b"c"))
    assert client.read("aks/new") == b"c"


def test_over_tls_later_calls_open_nothing_ahead(secure: Registry, ca_file: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"https://localhost:{secure.port}")
    client = make(ca_file=ca_file, data_hosts=f"localhost:{secure.data_port}")
    secure.data_origin = f"https://localhost:{secure.data_port}"
    client.pull(f"{ALB}:1.7.12")
    connections = secure.connections
    for version in ("1.7.9", "1.11.4"):
        client.pull(f"{ALB}:{version}")
    assert secure.connections == connections


def test_offline_uses_the_cache_and_sends_no_request(make: Make, mar: Registry) -> None:
    online, offline = make(), make(offline=True)
    with pytest.raises(RemoteError) as failure:
        offline.read(f"{ALB}:1.7.12")
    assert (failure.value.code, failure.value.exit_code, mar.asked) == ("offline", 7, [])
    right = online.read(f"{ALB}:1.7.12")
    mar.asked.clear()
    assert offline.read(f"{ALB}:1.7.12") == right, "a call finds content that other processes added to the cache"
    assert mar.asked == []


# -- threads


def test_two_threads_use_one_client_at_once(make: Make, mar: Registry) -> None:
    both = threading.Barrier(2, timeout=60)

    def progress(text: str) -> None:
        if text.startswith("fetching"):
            both.wait()  # wait until both calls are running

    client = make(progress=progress)
    found: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=lambda version=version: found.update({version: client.read(f"{ALB}:{version}")}))
        for version in ("1.7.12", "1.11.4")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found.keys() == {"1.7.12", "1.11.4"}
    assert found["1.7.12"] != found["1.11.4"]
    connections = mar.connections
    client.resolve(f"{ALB}:1.7.12")
    assert mar.connections == connections


def test_no_thread_is_left_when_it_is_closed(make: Make) -> None:
    before = set(threading.enumerate())
    with make() as client:
        client.search("charts", kind="chart")
        client.pull(f"{ALB}:1.7.12")
    until(lambda: not {one for one in threading.enumerate() if one.name.startswith("marfetch")} - before)


# -- closed


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - {"Client", "close"}))
def test_a_closed_client_raises(make: Make, mar: Registry, name: str) -> None:
    client = make()
    client.resolve(f"{ALB}:1.7.12")
    client.close()
    client.close()
    mar.asked.clear()
    with pytest.raises(InputError) as failure:
        getattr(client, name)(ALB)
    assert (failure.value.code, failure.value.exit_code) == ("client-closed", 2)
    assert "`Client`" in failure.value.hint
    with pytest.raises(Error), client:
        pass
    assert mar.asked == []


def test_a_call_that_is_running_goes_on_when_the_client_is_closed(make: Make, mar: Registry) -> None:
    client: Client

    def progress(text: str) -> None:
        if text.startswith("fetching"):
            client.close()

    client = make(progress=progress)
    assert len(client.pull(f"{ALB}:1.7.12")) == 1
    with pytest.raises(Error):
        client.versions(ALB)


# -- time


@pytest.mark.usefixtures("impatient")
def test_the_time_counts_for_each_call(make: Make, mar: Registry) -> None:
    client = make(timeout=0.7)
    mar.on("manifest").stalls_before_headers()
    with pytest.raises(RemoteError) as failure:
        client.resolve(f"{ALB}:1.7.12")
    assert (failure.value.code, failure.value.exit_code) == ("timeout", 7)
    mar.honestly()
    client = make(timeout=20.0)
    client.resolve(f"{ALB}:1.7.12")
    (connections,) = client._idle
    connections.budget.deadline = connections.budget.now() - 1  # the time limit of an earlier call has passed
    assert client.resolve(f"{ALB}:1.7.12").version == "1.7.12"


@pytest.mark.parametrize("options", [{"jobs": 0}, {"jobs": 33}, {"timeout": 0}, {"timeout": -1.0}, {"timeout": float("nan")}], ids=str)
def test_numbers_are_checked_when_the_client_is_created(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as failure:
        Client(**options)
    assert failure.value.code == "usage"
    assert f"`{next(iter(options))}`" in failure.value.message


def test_a_wrong_endpoint_is_an_error_when_it_is_made() -> None:
    with pytest.raises(InputError, match="is not an endpoint"):
        Client(endpoint="mars")
    with pytest.raises(PolicyError):
        Client(endpoint="http://example.com")
    with pytest.raises(InputError):
        Client(endpoint="global", data_hosts=["blob.example.com"])


# -- the environment


def test_an_argument_takes_precedence_over_the_environment(
    make: Make, mar: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARFETCH_ENDPOINT", "china")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", "127.0.0.1:1")
    with pytest.raises(PolicyError):
        make(endpoint=f"http://{mar.host}").read(f"{ALB}:1.7.12")
    client = make(endpoint=f"http://{mar.host}", data_hosts=[mar.data_host], cache_dir="mine")
    client.read(f"{ALB}:1.7.12")
    assert not (tmp_path / "cache" / "blobs" / "sha256").exists() or not list((tmp_path / "cache" / "blobs" / "sha256").glob("*/*"))
    assert (tmp_path / "mine" / "oci-layout").is_file()
    with pytest.raises(PolicyError, match="disagree"):
        client.read(f"mcr.microsoft.com/{ALB}:1.7.12")


def test_the_environment_counts_as_it_was_when_the_client_was_made(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make()
    for name in ("MARFETCH_ENDPOINT", "MARFETCH_DATA_HOSTS", "MARFETCH_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert client.read(f"{ALB}:1.7.12")
    assert (tmp_path / "cache" / "oci-layout").is_file()


@pytest.mark.parametrize("way", ["environment", "argument"])
def test_verification_can_be_required(
    make: Make, mar: Registry, signed: Signed, config: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("MARFETCH_VERIFY", "policy" if way == "environment" else "")
    client = make()
    document = policy(signatureVerification={"level": "strict", "override": {"revocation": "skip"}})
    (config / "trustpolicy.json").write_text(json.dumps(document))
    with pytest.raises(SignatureError) as failure:
        client.pull(signed.reference, verify=way == "argument")
    assert failure.value.code == "NO_SIGNATURE"
    assert not {"blob", "data"} & set(mar.kinds())
    if way == "environment":
        with pytest.raises(SignatureError):
            client.read(signed.reference)
    signed.sign()
    (file,) = client.pull(signed.reference, verify=way == "argument")
    assert file.path.read_bytes() == client.read(signed.reference) == b"a thing"
    monkeypatch.setenv("MARFETCH_VERIFY", "yes")
    with pytest.raises(InputError):
        client.read(signed.reference)


# -- verify


def test_with_a_platform_index_and_manifest_must_hold(make: Make, mar: Registry, signed: Signed, config: Path) -> None:
    child = signed.artifact
    platform = {"os": "linux", "architecture": "amd64"}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**descriptor_json(child), "platform": platform}]}
    top = mar.add_manifest("signed/thing", "2.0.0", json.dumps(index).encode())

    def sign(artifact: Descriptor) -> None:
        signed.sign(cose(signed.authority.signer(), payload(artifact)), subject=descriptor_json(artifact))

    def verify(**options: Any) -> str:
        return make().verify(f"{mar.host}/signed/thing:2.0.0", at=AT, revocation="skip", **options).verdict

    sign(top)
    assert verify() == "verified"
    with pytest.raises(NotFoundError) as missing:
        verify(platform="windows/arm64")
    assert (missing.value.code, missing.value.exit_code) == ("platform-not-found", 3)
    with pytest.raises(SignatureError) as unsigned:
        verify(platform="linux/amd64")
    assert str(child.digest) in unsigned.value.message
    sign(child)
    assert verify(platform="linux/amd64") == "verified"
    mar.on("referrers", path=str(top.digest)).answers(
        200, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}), Content_Type=OCI_INDEX
    )
    with pytest.raises(SignatureError):
        verify(platform="linux/amd64")


# -- failures


FAILURES: dict[str, tuple[Callable[[Client], object], list[str]]] = {
    "range": (lambda client: client.pull(ALB, version="^9"), ["pull", ALB, "--version", "^9"]),
    "bad range": (lambda client: client.resolve(ALB, version="one"), ["resolve", ALB, "--version", "one"]),
    "tag and range": (lambda client: client.read(f"{ALB}:1.7.12", version="^1"), ["pull", f"{ALB}:1.7.12", "--version", "^1"]),
    "repository": (
        lambda client: client.versions("application-lb/charts/alb-controler"),
        ["versions", "application-lb/charts/alb-controler"],
    ),
    "tag": (lambda client: client.inspect(f"{ALB}:1.7.13"), ["inspect", f"{ALB}:1.7.13"]),
    "reference": (lambda client: client.inspect("Aks/foo"), ["inspect", "Aks/foo"]),
    "host": (lambda client: client.versions("example.com/aks/foo"), ["versions", "example.com/aks/foo"]),
    "image": (
        lambda client: client.pull("dotnet/aspnet:6.0", platform="linux/amd64"),
        ["pull", "dotnet/aspnet:6.0", "--platform", "linux/amd64"],
    ),
    "platform": (lambda client: client.pull(f"{ALB}:1.7.12", platform="linux"), ["pull", f"{ALB}:1.7.12", "--platform", "linux"]),
    "kind": (lambda client: client.search("a", kind="thing"), ["search", "a", "--kind", "thing"]),
    "policy": (lambda client: client.verify(f"{ALB}:1.7.12"), ["verify", f"{ALB}:1.7.12"]),
    "moment": (lambda client: client.verify(f"{ALB}:1.7.12", at="today"), ["verify", f"{ALB}:1.7.12", "--at", "today"]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_that_of_the_command_line(make: Make, name: str, tmp_path: Path) -> None:
    act, words = FAILURES[name]
    with pytest.raises(Error) as failure:
        act(make())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "marfetch", *words, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    document = json.loads(done.stdout)
    error = (document.get("data") or {}).get("failed", [document["error"]])[0]
    told = failure.value
    assert (told.code, told.message, told.hint, told.exit_code) == (error["code"], error["message"], error["hint"], done.returncode)


def test_what_a_search_could_not_look_into_is_a_failure(make: Make, mar: Registry) -> None:
    mar.on("manifest", path="ingress-azure").has_status(403)
    with pytest.raises(Error) as failure:
        make().search("charts", kind="chart")
    assert "cannot inspect 1 of 2 repositories" in failure.value.message


def test_errors_go_from_one_process_to_another() -> None:
    for error in (
        NotFoundError("it is not there", code="tag-not-found", reference="a"),
        RateLimitedError("later", retry_after=3, host="h"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.args, vars(again)) == (error.args, vars(error))


def test_after_an_interruption_the_client_can_be_used(make: Make) -> None:
    stops = [KeyboardInterrupt]

    def progress(text: str) -> None:
        if text.startswith("fetching") and stops:
            raise stops.pop()

    client = make(progress=progress)
    with pytest.raises(KeyboardInterrupt):
        client.read(f"{ALB}:1.7.12")
    assert client.read(f"{ALB}:1.7.12")


def test_a_refusal_by_the_operating_system_is_an_error_of_marfetch(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    client = make()
    with monkeypatch.context() as patch:
        patch.setattr("marfetch.library.facade.resolve", refused)
        with pytest.raises(Error) as failure:
            client.resolve(ALB)
    assert (failure.value.code, failure.value.exit_code) == ("file-unusable", 9)
    assert client.resolve(ALB).version == "1.11.4"


# -- silence and progress


def test_it_says_nothing(make: Make, mar: Registry, signed: Signed, capfd: pytest.CaptureFixture[str]) -> None:
    client = make()
    mar.on("manifest").has_status(503, times=1)
    client.pull(f"{ALB}:1.7.12", untar=True)
    client.search("charts", kind="chart")
    client.inspect(f"{IMAGE}:latest")
    client.versions(ALB)
    for act, _ in FAILURES.values():
        with pytest.raises(Error):
            act(client)
    client.close()
    assert capfd.readouterr() == ("", "")


def test_a_function_gets_one_text_for_each_event(make: Make, mar: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    client = make(progress=told.append)
    client.pull(f"{ALB}:1.7.12")
    assert told == [
        f"warning: `http://{mar.host}` is not an official endpoint of MAR; Microsoft endorses no mirrors: they may serve altered content",
        "fetching alb-controller-1.7.12.tgz (10.0 KiB)",
    ]
    client.pull(f"{ALB}:1.7.12")
    client.pull(f"{ALB}:1.11.4")
    assert told[2:] == ["fetching alb-controller-1.11.4.tgz (10.0 KiB)"], "the notice is shown only once"
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_stderr_on_demand(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    make(progress=True).pull(f"{ALB}:1.7.12")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("warning: ")
    assert "is not an official endpoint" in err


def test_a_call_leaves_the_process_unchanged(mar: Registry, tmp_path: Path) -> None:
    """A call does not change signal handlers, logging, garbage collection, the environment or the exit of the process."""
    program = f"""
import atexit, gc, logging, os, signal, sys, threading
hooks = []
atexit.register = lambda *given, **_: hooks.append(given)

def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    logs = logging.getLogger(), logging.getLogger("marfetch"), logging.getLogger("urllib3")
    return handlers, gc.get_threshold(), gc.isenabled(), dict(os.environ), [(one.level, one.handlers[:]) for one in logs if one.name != "urllib3"], sys.excepthook, sys.unraisablehook, threading.excepthook

before = state()
from marfetch import Client
with Client() as client:
    client.pull("{ALB}:1.7.12", to="out")
    client.search("charts", kind="chart")
assert state() == before
assert not [one for one in hooks if "marfetch" in getattr(one[0], "__module__", "")], hooks
assert sorted(os.listdir(".")) == ["out", "program.py"], os.listdir(".")
"""
    here = tmp_path / "here"
    here.mkdir()
    (here / "program.py").write_text(program)
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(here), "PYTHONPATH": str(ROOT), "MARFETCH_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1",
        "MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
