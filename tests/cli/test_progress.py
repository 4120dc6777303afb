"""Commands that process many items report how many items are done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.__main__ import main
from marfetch.client.session import Session
from marfetch.content import Progress
from marfetch.errors import Error, NotFoundError
from marfetch.render.report import Report

from ..world.command import surroundings
from ..world.content import ALB, MODULE
from ..world.progress import Heard
from ..world.projects import project_of
from ..world.registry import Registry

Reported = Callable[..., list[tuple[str, int, str]]]


@pytest.fixture
def reported(mar: Registry, heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reported:
    """`reported("lock")` runs a command that must succeed, and returns its finished tasks as (label, count, unit)."""
    project_of(tmp_path, f"reference: {ALB}, version: 1.7.9", f"reference: {MODULE}")
    monkeypatch.chdir(tmp_path)
    for name, value in surroundings(mar, tmp_path / "cache").items():
        if name.startswith("MARFETCH_"):
            monkeypatch.setenv(name, value)

    def progress(_: Report) -> Progress:
        return heard

    monkeypatch.setattr(Report, "_make_progress", progress)

    def do(*words: object) -> list[tuple[str, int, str]]:
        heard.tasks.clear()
        assert main([*map(str, words)]) in (0, 1), heard.warnings
        assert all(task.has_ended and task.done == task.total for task in heard.tasks if task.unit != "pages")
        return [(task.label, task.total, task.unit) for task in heard.tasks if task.total > 1]

    return do


@pytest.mark.slow
def test_commands_report_what_they_work_on(reported: Reported, mar: Registry, tmp_path: Path) -> None:
    def kinds(*words: object) -> list[tuple[str, str]]:
        return [(label, unit) for label, _, unit in reported(*words)]

    # As on MAR, the catalog lists a repository that no longer exists.
    mar.listed = [*mar.layout.repositories(), "application-lb/charts/alb-gone"]
    two = ("resolving", 2, "artifacts")
    assert reported("lock") == [two]
    files = [("comparing", 2, "artifacts"), ("downloading", 2, "files")]
    assert reported("sync") == [two, two, *files]
    assert reported("pull", ALB, MODULE, "-d", "there") == [two, *files]
    assert reported("outdated") == [("checking", 2, "artifacts")]
    assert reported("diff") == [("comparing", 2, "artifacts")]
    assert kinds("search", "--kind", "chart") == [("inspecting", "repositories")]
    assert kinds("versions", ALB, "--details") == [("reading", "versions")]
    assert kinds("index", "application-lb")[:1] == [("reading", "repositories")]
    assert kinds("bundle", "create", "-o", "b.tar") == [("reading", "artifacts"), ("downloading", "blobs"), ("writing", "blobs")]
    assert kinds("bundle", "verify", "b.tar") == [("checking", "blobs")]
    assert kinds("bundle", "load", "b.tar", "--to", tmp_path / "loaded") == [("checking", "blobs"), ("loading", "artifacts")]
    assert kinds("cache", "verify") == [("checking", "blobs")]


def test_an_item_that_fails_counts_as_done(client: Callable[..., Session], heard: Heard) -> None:
    def fail(number: int) -> None:
        if number:
            raise NotFoundError("it is gone", code="tag-not-found")

    for jobs in (1, 4):
        heard.tasks.clear()
        with pytest.raises(Error):
            client(jobs=jobs).each(fail, [0, 1, 2], label="resolving")
        (task,) = heard.tasks
        assert (task.label, task.total, task.unit, task.has_ended) == ("resolving", 3, "artifacts", True)
        assert 2 <= task.done <= 3


def test_one_item_is_no_task(client: Callable[..., Session], heard: Heard) -> None:
    assert client().each(str, [1], label="resolving") == ["1"]
    assert heard.tasks == []
