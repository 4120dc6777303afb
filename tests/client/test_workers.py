"""Work on several machines: a real Dask scheduler with three workers. One of them is killed during the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

import marfetch
from marfetch import errors
from marfetch.bundle.create import create
from marfetch.client.session import Session, SessionOptions
from marfetch.client.workers import WorkerCache, ask, error_from_json, error_to_json, part, spread
from marfetch.codes import CODES
from marfetch.endpoint import Preference
from marfetch.errors import InputError, RemoteError
from marfetch.layout.layout import Layout
from marfetch.oci import Digest
from marfetch.project.sync import Synced, sync
from marfetch.project.sync import spread as spread_items
from marfetch.project.wanted import Project
from marfetch.reference import Host

from ..world.bundles import locked
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.real import cluster, distribution, free_port, run
from ..world.registry import Registry

CHARTS = 60


@pytest.mark.parametrize(
    "address", ["", "dask://", "dask://host", "tcp://127.0.0.1:8786", "dask://a b:1", "dask://h:123456", "dask://u@h:1"]
)
def test_an_invalid_scheduler_address_is_refused(address: str) -> None:
    with pytest.raises(InputError) as caught, spread(address):
        pass
    assert caught.value.exit_code == 2


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError) as caught, spread("dask://127.0.0.1:8786"):
        pass
    assert "marfetch[dask]" in caught.value.hint


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_missing_scheduler_is_unreachable() -> None:
    with pytest.raises(RemoteError) as caught, spread(f"dask://127.0.0.1:{free_port()}"):
        pass
    assert caught.value.exit_code == 7


@pytest.fixture
def mar(tmp_path: Path) -> Iterator[Registry]:
    """Start a test registry with many charts."""
    from benchmarks.stage import fill

    layout = Layout(tmp_path / "layout")
    fill(layout, CHARTS)
    with Registry(layout, names=Host("bench.test")) as registry:
        yield registry


def project_of(mar: Registry, place: Path) -> tuple[Project, Session]:
    preference = Preference(option=f"{mar.scheme}://{mar.host}", data_hosts=(mar.data_host,))
    client = Session(SessionOptions(preference), Heard())
    items = [f"reference: bench/charts/chart{number}, version: 1.2.3" for number in range(CHARTS)]
    return locked(client, place, *items), client


def bundle_of(mar: Registry, place: Path) -> Path:
    project, client = project_of(mar, place / "project")
    with client:
        create(client, project, place / "a.tar")
    return place / "a.tar"


def holds_all(bundle: Path, there: str) -> bool:
    """Return whether a registry has the whole bundle, so that another load uploads nothing."""
    again = run(sys.executable, "-m", "marfetch", "bundle", "load", bundle, "--to", there, "--plain-http", "--json", cwd=ROOT)
    return {one["outcome"] for one in json.loads(again)["data"]["artifacts"]} == {"unchanged"}


def killed_in_the_middle(line: list[str], done: Callable[[], int], worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Run a command with `--json`, and kill a worker when some of the jobs are done.

    Args:
        done: returns the number of finished jobs.
    """
    whole = [sys.executable, "-m", "marfetch", *line, "--json"]
    with subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while done() < 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        before = done()
        worker.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert 5 <= before < CHARTS, "the worker was killed in the middle"
    data: dict[str, Any] = json.loads(out)["data"]
    return data


@pytest.mark.tool
@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tool: Callable[[str], Path], mar: Registry, tmp_path: Path) -> None:
    bundle = bundle_of(mar, tmp_path)
    load = ["bundle", "load", str(bundle), "--plain-http", "--to"]
    repositories = tmp_path / "registry" / "docker" / "registry" / "v2" / "repositories" / "bench" / "charts"
    with distribution(tool("registry"), tmp_path / "registry") as host, cluster(tmp_path) as (address, workers):
        data = killed_in_the_middle([*load, host, "--executor", address], lambda: len(list(repositories.glob("*"))), workers[0])
        assert (len(data["artifacts"]), data["failed"]) == (CHARTS, [])
        assert holds_all(bundle, host)


@pytest.mark.tool
@pytest.mark.slow
def test_the_manifest_that_is_shown_loads_everything(tool: Callable[[str], Path], mar: Registry, tmp_path: Path) -> None:
    bundle = bundle_of(mar, tmp_path)
    policy, service, *pods = yaml.safe_load_all((ROOT / "docs" / "how-to" / "dask.yaml").read_text())
    scheduler, worker, job = (one["spec"]["template"] for one in pods)
    for one in (scheduler, worker, job):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= scheduler["metadata"]["labels"].items()
    for one in (worker["spec"], job["spec"]):
        assert {mount["name"] for mount in one["containers"][0]["volumeMounts"]} == {volume["name"] for volume in one["volumes"]}
    port = service["spec"]["ports"][0]["port"]
    here = {
        f"{service['metadata']['name']}:{port}": f"127.0.0.1:{free_port()}",
        "0.0.0.0": "127.0.0.1",
        "/bundle/charts.tar": str(bundle),
    }
    here[str(port)] = here[f"{service['metadata']['name']}:{port}"].partition(":")[2]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MARFETCH_CACHE_DIR": str(tmp_path / "pods"),
    }
    with distribution(tool("registry"), tmp_path / "registry") as host, ExitStack() as stack:
        here["registry.example.com/mar"] = f"{host}/mar"

        def line(pod: dict[str, Any]) -> list[str]:
            words: list[str] = pod["spec"]["containers"][0]["command"]
            for there, instead in here.items():
                words = [word.replace(there, instead) for word in words]
            return words

        for words in [line(scheduler)] + [line(worker)] * pods[1]["spec"]["replicas"]:
            process = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
        for _ in range(pods[2]["spec"]["backoffLimit"] + 1):  # the scheduler may not be running yet
            done = subprocess.run([*line(job), "--plain-http"], check=False, env=environment, capture_output=True, text=True, timeout=100)
            if done.returncode == 0:
                break
            time.sleep(1)
        assert done.returncode == 0, done.stderr
        assert holds_all(bundle, f"{host}/mar")


@pytest.mark.slow
def test_a_sync_is_done_by_workers_that_share_the_directory(mar: Registry, tmp_path: Path) -> None:
    project, client = project_of(mar, tmp_path / "project")
    client.close()
    mar.asked.clear()
    sync = ["sync", "-f", str(project.path), "--locked", "--endpoint", f"{mar.scheme}://{mar.host}", "--data-host", mar.data_host]
    with cluster(tmp_path) as (address, workers):
        spread_out = [*sync, "--executor", address]
        data = killed_in_the_middle(spread_out, lambda: len(list((tmp_path / "project").glob("*.tgz"))), workers[0])
        assert {one["outcome"] for one in data["artifacts"]} <= {"fetched", "unchanged"}  # a repeated job finds its files unchanged
        assert [one["name"] for one in data["artifacts"]] == [item.name for item in project.items]
        assert all(
            Digest.of(Path(one["files"][0]["path"]).read_bytes()) == Digest.parse(one["files"][0]["digest"]) for one in data["artifacts"]
        )
        fetched = mar.kinds().count("data")
        assert CHARTS <= fetched < 2 * CHARTS
        (tmp_path / "project" / "chart7-1.2.3.tgz").write_bytes(b"?")
        again = json.loads(run(sys.executable, "-m", "marfetch", *spread_out, "--json", cwd=ROOT))
        assert [one["outcome"] for one in again["data"]["artifacts"]].count("replaced") == 1
        assert {one["outcome"] for one in again["data"]["artifacts"]} == {"unchanged", "replaced"}


class Elsewhere(Executor):
    """Workers with another version of marfetch, which lacks the function for a batch."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(ModuleNotFoundError("No module named 'marfetch.bundle.load'", name="marfetch.bundle.load"))
        return future


def test_workers_of_another_version_are_named_as_such() -> None:
    (answer,) = ask(Elsewhere(), lambda text: text, "", [1])
    assert isinstance(answer, RemoteError)
    assert "another version of marfetch" in answer.message
    assert marfetch.__version__ in (answer.hint or "")


class Here(Executor):
    """An executor that runs the work immediately in this process."""

    def submit(self, work: Callable[..., Any], /, *words: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*words))
        except Exception as error:
            future.set_exception(error)
        return future


def test_what_drifted_or_clashes_is_found_out_before_work_is_given_out(mar: Registry, tmp_path: Path) -> None:
    project, client = project_of(mar, tmp_path / "project")
    mar.add_artifact("bench/charts/chart1", "1.2.3", ("moved.bin", b"another thing under the same tag"))
    asked: list[str] = []

    def elsewhere(names: Sequence[str]) -> Mapping[str, Synced]:
        asked.extend(names)
        return spread_items(client, project, Here())(names)

    with client:
        result = sync(client, project, elsewhere=elsewhere)
        outcomes = {one.name: one.outcome for one in result}
        assert outcomes.pop("chart1") == "drifted"
        assert (set(outcomes.values()), asked) == ({"fetched"}, list(outcomes))
        again = sync(client, project, elsewhere=elsewhere)
    assert {one.outcome for one in again if one.name != "chart1"} == {"unchanged"}
    assert asked == list(outcomes), "items that are up to date go to no worker"


def test_a_worker_that_sees_another_lock_does_nothing(mar: Registry, tmp_path: Path) -> None:
    project, client = project_of(mar, tmp_path / "project")

    class Elsewhere(Here):
        def submit(self, work: Callable[..., Any], /, *words: Any, **_: Any) -> Future[Any]:
            project.lock_path.write_bytes(project.lock_path.read_bytes() + b"\n")
            return super().submit(work, *words)

    with client:
        result = sync(client, project, as_locked=True, elsewhere=spread_items(client, project, Elsewhere()))
    assert {(one.outcome, one.error.code if one.error else None) for one in result} == {("failed", "file-unusable")}
    assert not list((tmp_path / "project").glob("*.tgz"))


def test_a_lost_batch_is_reported_for_each_item(mar: Registry, tmp_path: Path) -> None:
    project, client = project_of(mar, tmp_path / "project")

    class Dying(Here):
        def submit(self, work: Callable[..., Any], /, *words: Any, **_: Any) -> Future[Any]:
            def die(*_: Any) -> str:
                raise OSError("the worker went away")

            return super().submit(die if '"chart3"' in words[0] else work, *words)

    with client:
        result = sync(client, project, as_locked=True, elsewhere=spread_items(client, project, Dying()))
    failed = [one for one in result if one.error is not None]
    assert {one.error.code for one in failed if one.error} == {"unreachable"}
    assert "chart3" in {one.name for one in failed}
    assert len(failed) <= CHARTS / 8, "other workers did the jobs of the killed worker"
    assert {one.outcome for one in result if one not in failed} == {"fetched"}


def test_work_is_given_out_in_parts_of_which_each_worker_gets_some() -> None:
    sizes = []

    class Counting(Here):
        def submit(self, work: Callable[..., Any], /, *words: Any, **_: Any) -> Future[Any]:
            sizes.append(len(part(words[0])[1]))
            return super().submit(work, *words)

    def twice(text: str) -> str:
        shared, jobs = part(text)
        return json.dumps([f"{shared}{job}" for job in jobs])

    for count, expected in ((1, [1]), (7, [1] * 7), (60, [7] * 8 + [4]), (1000, [16] * 62 + [8])):
        sizes.clear()
        assert ask(Counting(), twice, "x", list(range(count))) == [f"x{number}" for number in range(count)]
        assert sizes == expected


def test_a_worker_closes_what_it_opened_for_commands_that_are_long_over() -> None:
    closed: list[str] = []

    def open_it(key: str, stack: ExitStack) -> str:
        stack.callback(closed.append, key)
        return key.upper()

    kept: WorkerCache[str] = WorkerCache(open_it)
    assert [kept.get(key) for key in "abcdaef"] == list("ABCDAEF")
    assert closed == ["a", "b"]


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_error_is_the_same_on_the_other_machine(code: str) -> None:
    kind = getattr(errors, CODES[code].kind)
    options = {} if kind is errors.RateLimitedError else {"code": code}
    error = kind("it failed", hint="try again", **options, path="x", number=3)
    there = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert (type(there), there.code, there.message, there.hint, there.context) == (kind, code, "it failed", "try again", error.context)
