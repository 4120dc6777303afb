"""Compare two artifacts: charts and Bicep modules by their structure, everything else file by file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from marfetch.chart.images import find_images
from marfetch.client.resolve import Wanted, resolve
from marfetch.client.session import Session
from marfetch.diff import changes
from marfetch.diff.artifacts import compare, upstream
from marfetch.diff.changes import Difference, LineDiff, changed_keys, flat
from marfetch.errors import Error, PolicyError
from marfetch.project.lockfile import read_lock
from marfetch.project.locking import settle, write
from marfetch.project.wanted import read_project
from marfetch.reference import Reference
from marfetch.render.diff import _lines, markdown_of, print_diff
from marfetch.render.report import Report

from ..world.charts import VALUES, add_foo, add_module
from ..world.registry import Registry


def between(client: Session, repository: str, old: str = "1.0.0", new: str = "2.0.0") -> Difference:
    before, after = (resolve(client, Wanted(Reference.parse(f"{repository}:{tag}"))) for tag in (old, new))
    return compare(client, before, after)


def told(found: Difference) -> dict[str, list[tuple[str, str]]]:
    return {section.name: [(change.sort, change.path) for change in section.changes] for section in found.sections}


def test_a_chart_is_compared_in_its_own_words(client: Callable[..., Session], mar: Registry) -> None:
    add_foo(
        mar,
        "1.0.0",
        {
            "templates/web.yaml": "a: 1\nimage: mcr.microsoft.com/aks/init:1\n",
            "templates/gone.yaml": "x",
            "crds/one.yaml": "v: 1",
            "README.md": "one",
        },
    )
    new = VALUES.replace('"1.0"', '"1.1"').replace("replicas: 1", "replicas: true").replace("[a, b]", "[a]") + "more: {deep: 1}\n"
    add_foo(
        mar,
        "2.0.0",
        {
            "Chart.yaml": "apiVersion: v2\nname: foo\nversion: 2.0.0\nappVersion: '2'\ndependencies: [{name: redis, version: 1.x, repository: 'oci://x/y'}]\n",
            "values.yaml": new,
            "templates/web.yaml": "a: 2\nimage: mcr.microsoft.com/aks/init:1\n",
            "crds/one.yaml": "v: 1",
            "crds/two.yaml": "v: 1",
            "README.md": "two",
        },
    )
    found = between(client(), "charts/foo")
    assert found.differs
    assert told(found) == {
        "Chart.yaml": [
            ("changed", "appVersion"),
            ("added", "dependencies.redis.repository"),
            ("added", "dependencies.redis.version"),
            ("changed", "version"),
        ],
        "values": [("removed", "hosts[1]"), ("changed", "image.tag"), ("added", "more.deep"), ("changed", "replicas")],
        "images": [("removed", "mcr.microsoft.com/aks/web:1.0"), ("added", "mcr.microsoft.com/aks/web:1.1")],
        "crds": [("added", "crds/two.yaml")],
        "templates": [("removed", "templates/gone.yaml"), ("changed", "templates/web.yaml")],
        "files": [("changed", "README.md")],
    }
    templates = next(section for section in found.sections if section.name == "templates")
    assert templates.changes[1].lines == ("@@ -1,2 +1,2 @@", "-a: 1", "+a: 2", " image: mcr.microsoft.com/aks/init:1")


def test_values_that_are_no_plain_yaml_are_compared_as_text(client: Callable[..., Session], mar: Registry) -> None:
    add_foo(mar, "1.0.0", {"values.yaml": "a: &x 1\nb: *x\n"})
    add_foo(mar, "2.0.0", {"values.yaml": "a: &x 2\nb: *x\n"})
    values = next(section for section in between(client(), "charts/foo").sections if section.name == "values")
    assert values.changes[0].lines == ("@@ -1,2 +1,2 @@", "-a: &x 1", "+a: &x 2", " b: *x")


def test_comments_of_values_are_a_difference_too(client: Callable[..., Session], mar: Registry) -> None:
    add_foo(mar, "1.0.0", {})
    add_foo(mar, "2.0.0", {"values.yaml": VALUES + "# new\n"})
    assert told(between(client(), "charts/foo"))["values"] == [("changed", "values.yaml")]


def test_a_module_is_compared_by_parameters_outputs_and_resources(client: Callable[..., Session], mar: Registry) -> None:
    add_module(
        mar,
        "1.0.0",
        {
            "parameters": {"name": {"type": "string"}, "old": {"type": "int"}},
            "outputs": {"id": {"type": "string"}},
            "resources": [{"type": "A/b", "apiVersion": "1"}],
        },
    )
    add_module(
        mar,
        "2.0.0",
        {
            "parameters": {"name": {"type": "string", "maxLength": 5}},
            "outputs": {"id": {"type": "string"}, "url": {"type": "string"}},
            "resources": {"x": {"type": "A/b", "apiVersion": "2"}},
        },
    )
    found = told(between(client(), "bicep/foo"))
    assert found["parameters"] == [("changed", "name"), ("removed", "old")]
    assert found["outputs"] == [("added", "url")]
    assert found["resources"] == [("removed", "A/b@1"), ("added", "A/b@2")]


def test_other_artifacts_are_compared_file_by_file(client: Callable[..., Session], mar: Registry) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("a.txt", b"one\n"), ("b.bin", b"\0\1"), ("foo-1.0.0.txt", b"same"))
    mar.add_artifact("aks/foo", "2.0.0", ("a.txt", b"two\n"), ("b.bin", b"\0\2"), ("c.txt", b"new"), ("foo-2.0.0.txt", b"same"))
    found = between(client(), "aks/foo")
    assert told(found)["files"] == [("changed", "a.txt"), ("changed", "b.bin"), ("added", "c.txt")]
    files = next(section for section in found.sections if section.name == "files").changes
    assert files[0].lines == ("@@ -1 +1 @@", "-one", "+two")
    assert files[1].lines == ()


def test_one_and_the_same_artifact_does_not_differ_and_fetches_no_payload(client: Callable[..., Session], mar: Registry) -> None:
    add_foo(mar, "1.0.0", {})
    assert not between(client(), "charts/foo", "1.0.0", "1.0.0").differs
    assert "data" not in mar.kinds()


def test_an_archive_that_is_not_what_it_says_is_refused(client: Callable[..., Session], mar: Registry) -> None:
    add_foo(mar, "1.0.0", {})
    add_foo(mar, "2.0.0", {"Chart.yaml": "apiVersion: v2\nname: other\nversion: 2.0.0\n"})
    with pytest.raises(Error) as caught:
        between(client(), "charts/foo")
    assert caught.value.code == "chart-refused"


def test_the_lock_is_compared_with_what_an_upgrade_would_take(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    add_foo(mar, "1.0.0", {})
    (tmp_path / "marfetch.yaml").write_text(
        "schema: 1\nartifacts:\n  - {reference: charts/foo, name: web}\n  - {reference: 'charts/foo:1.0.0', name: fixed}\n"
    )
    project = read_project(tmp_path / "marfetch.yaml")
    write(project, settle(client(), project, None))
    add_foo(mar, "2.0.0", {})
    different, errors = upstream(client(), project, read_lock(project.lock_path))
    assert [(name, one.old.tag, one.new.tag) for name, one in different] == [("web", "1.0.0", "2.0.0")]
    assert errors == []


# -- values


def test_a_document_becomes_one_level() -> None:
    assert flat({"a": {"b.c": [1, {"d": None}], "e": {}}, "f": []}) == {'a."b.c"[0]': 1, 'a."b.c"[1].d': None, "a.e": {}, "f": []}


def test_values_that_python_treats_as_equal_can_differ() -> None:
    assert [change.path for change in changed_keys({"a": 1, "b": 1, "c": 1}, {"a": True, "b": 1.0, "c": 1})] == ["a", "b"]


def test_long_keys_do_not_multiply() -> None:
    with pytest.raises(PolicyError, match="paths of a document"):
        flat({"k" * 500_000: {str(number): number for number in range(1_000)}})


def test_values_with_long_keys_are_compared_as_text(client: Callable[..., Session], mar: Registry) -> None:
    for version in ("1.0.0", "2.0.0"):
        values = f'? "{"k" * 500_000}"\n: {{' + ",".join(f'"{number}": 1' for number in range(10_000)) + f"}}\nv: {version}\n"
        add_foo(mar, version, {"values.yaml": values})
    (section,) = [one for one in between(client(), "charts/foo").sections if one.name == "values"]
    (change,) = section.changes
    assert change.path == "values.yaml"
    assert "+v: 2.0.0" in change.lines
    assert sum(map(len, change.lines)) < 20_000


# -- texts


def test_a_line_diff_is_that_of_difflib() -> None:
    random = Random(1)
    for _ in range(300):
        old, new = ([random.choice("abcdef") for _ in range(random.randrange(40))] for _ in range(2))
        expected = list(difflib.unified_diff(old, new, lineterm=""))[2:]
        assert LineDiff().unified("\n".join(old), "\n".join(new)) == (tuple(expected) or ("(only line endings differ)",))


def test_long_texts_are_not_compared_for_ever() -> None:
    assert "too long to compare" in LineDiff().unified("a\n" * 30_000, "b\n" * 30_000)[0]
    assert LineDiff().unified("".join(f"a{n}\n" for n in range(9_000)), "")[-1].endswith("more lines)")
    assert LineDiff().unified("a\r\n", "a\n") == ("(only line endings differ)",)


def test_a_comparison_has_a_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_STEPS", 100_000)
    checks: list[int] = []
    lines = LineDiff(lambda: checks.append(1))
    # For these texts, difflib needs cubic time.
    old, new = ("".join(f"{mark}{number}\nx{number % 101}\n" for number in range(10_000)) for mark in "uv")
    assert lines.unified(old, new)[-1].endswith("more lines)")
    assert len(checks) < 100
    # The diff of the next text is still correct, but may not be the shortest.
    lines.unified(old, new)
    assert set(lines.unified("a\nb\n" * 100_00, "a\nc\n" * 100_00)) >= {"-a", "-b"}


def test_the_output_of_a_comparison_is_limited() -> None:
    lines = LineDiff()
    (_, removed, added) = lines.unified("a" * 1_000_000, "b" * 1_000_000)
    assert removed.endswith("… (1000001 characters)")
    assert len(removed) == len(added) < 2_100
    old, new = ("".join(f"{mark * 1_500}{number}\n" for number in range(1_000)) for mark in "ab")
    shown = [lines.unified(old, new) for _ in range(5)]
    assert shown[-1] == ("(not shown: there are too many differences)",)
    assert sum(len(line) for each in shown for line in each) < 5 << 20


def test_images_have_a_length() -> None:
    assert find_images({"values.yaml": f"image: x/{'y' * 5_000}\nsideImage: x/z:1\n".encode()}).images == ("x/z:1",)


# -- output


def hostile(client: Session, mar: Registry) -> Difference:
    mar.add_artifact("aks/foo", "1.0.0", ("a.txt", b"old\n"))
    mar.add_artifact("aks/foo", "2.0.0", ("a.txt", b"```\n\x1b[31m</details><script>\n"), annotations={"x|`y": "\x1b]0;t\x07 | <b>"})
    return between(client, "aks/foo")


def test_markdown_reads_nothing_of_what_it_shows(client: Callable[..., Session], mar: Registry) -> None:
    text = markdown_of([("foo", hostile(client(), mar))])
    assert "\x1b" not in text
    assert "````diff" in text  # the fence is longer than the backticks in the text
    assert "`` annotation x\\|`y ``" in text
    outside = [line for line in text.split("````")[0].splitlines() if "<b>" in line]
    assert all("`" in line.partition("<b>")[0] for line in outside)


@pytest.mark.slow
def test_markdown_fits_into_a_comment(client: Callable[..., Session], mar: Registry) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("a.txt", b"".join(b"old line %d\n" % n for n in range(1_900))))
    mar.add_artifact("aks/foo", "2.0.0", ("a.txt", b"".join(b"new line %d\n" % n for n in range(1_900))))
    one = between(client(), "aks/foo")
    assert len(markdown_of([(f"n{number}", one) for number in range(600)])) < 65_536


def test_lines_json_and_exit_code(client: Callable[..., Session], mar: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    found = hostile(client(), mar)
    assert next(_lines("", found))[1].text.startswith("foo: 1.0.0 → 2.0.0 (")
    assert print_diff(Report("diff", as_json=True), [("", found)], [], markdown=False) == 1
    (one,) = json.loads(capsys.readouterr().out)["data"]["differences"]
    assert one["sections"]["files"][0]["change"] == "changed"
    assert "+```" in one["sections"]["files"][0]["diff"]
    same = Difference(found.old, found.old, "file")
    assert print_diff(Report("diff"), [("", same)], [], markdown=False) == 0
