"""`show` prints one part of a chart or Bicep module, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.__main__ import main

from ..world.archives import chart, file, header, pax, targz
from ..world.charts import add_chart, add_module
from ..world.command import Run, Window, document, line, surroundings
from ..world.content import ALB, IMAGE, MODULE
from ..world.registry import Registry

Show = Callable[..., tuple[int, bytes, str]]

METADATA = b"apiVersion: v2\nname: toy\nversion: 1.0.0\n"
BOM = b"\xef\xbb\xbf"
SUB = chart("sub", "1.0.0", file("sub/crds/s.yaml", b"---\nsub: 1"), file("sub/values.yaml", b"sub: 1\n"))
ODD = {
    "plain": {"Chart.yaml": METADATA, "values.yaml": b"a: 1\n", "README.md": b"# Toy\n", "values.schema.json": b"{}"},
    "line ends": {
        "Chart.yaml": BOM + METADATA.replace(b"\n", b"\r\n"),
        "values.yaml": BOM + b"a: 1\r\nb: 2",
        "readme.TXT": b"a\rb\x00\x1b[0m",
    },
    "not UTF-8": {"Chart.yaml": METADATA + b"# \xff\n", "values.yaml": b"# \xff\xfe\na: \xe4\n", "README": b"\xff"},
    "empty": {"Chart.yaml": METADATA, "values.yaml": b"", "Readme.md": b"", "values.schema.json": b""},
    "strict YAML": {"Chart.yaml": METADATA + b"keywords: &k [a]\nannotations: {a: b, <<: *k}\n", "values.yaml": b"a: [\n"},
    "sub-charts": {"Chart.yaml": METADATA, "charts/sub-1.0.0.tgz": SUB, "charts/sub/values.yaml": b"x: 1\n", "charts/sub/README.md": b"x"},
}
FILES = {"chart": "Chart.yaml", "values": "values.yaml", "readme": "readme", "schema": "values.schema.json"}


@pytest.fixture
def show(mar: Registry, capfdbinary: pytest.CaptureFixture[bytes]) -> Show:
    """`show("values", …)` returns exit code, stdout and stderr of the command."""

    def do(*words: object) -> tuple[int, bytes, str]:
        code = main(["show", *map(str, words), "--endpoint", f"http://{mar.host}", "--data-host", mar.data_host])
        out = capfdbinary.readouterr()
        return code, out.out, out.err.decode()

    return do


def add(mar: Registry, files: dict[str, bytes], *more: bytes, slash: str = "/") -> bytes:
    """Add `charts/toy:1.0.0`, and return the package."""
    raw = targz(*(file(f"toy{slash}{name.replace('/', slash)}", data) for name, data in files.items()), *more)
    add_chart(mar, "charts/toy", "1.0.0", raw)
    return raw


def part_of(files: dict[str, bytes], part: str) -> bytes | None:
    if part == "readme":
        return next((data for name, data in files.items() if name.lower() in ("readme", "readme.md", "readme.txt")), None)
    return files.get(FILES[part])


# -- charts


@pytest.mark.parametrize("slash", ["/", "\\"], ids=["unix", "windows"])
@pytest.mark.parametrize("files", ODD.values(), ids=ODD)
def test_a_file_is_printed_byte_for_byte(mar: Registry, show: Show, files: dict[str, bytes], slash: str) -> None:
    add(mar, files, slash=slash)
    for part, path in FILES.items():
        wanted = part_of(files, part)
        code, out, err = show(part, "charts/toy:1.0.0")
        if wanted is None:
            assert (code, out) == (3, b"")
            assert f"has no `{part}`" in err
        else:
            assert (code, out) == (0, wanted), err
            found = json.loads(show(part, "charts/toy:1.0.0", "--json")[1])["data"]
            assert found["content"] == wanted.decode("utf-8", "replace")
            assert found["path"].lower().startswith(path.lower())


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("files", [ODD["plain"], ODD["line ends"], ODD["sub-charts"]], ids=["plain", "line ends", "sub-charts"])
def test_parts_are_those_of_helm(
    mar: Registry, show: Show, tool: Callable[[str], Path], tmp_path: Path, files: dict[str, bytes], major: int
) -> None:
    sub = {} if "charts/sub-1.0.0.tgz" not in files else {"charts/sub/Chart.yaml": METADATA}
    crds = {"crds/b.yaml": b"b: 1", "crds/a.YML": b"a: 1\n", "crds/x/c.json": b"{}\n", "crds/notes.txt": b"no", "charts/sub/crds/y": b"no"}
    whole = {**files, **(crds if sub else {}), **sub}
    package = tmp_path / "toy.tgz"
    package.write_bytes(add(mar, whole, header("toy/link", sort=b"2", link=b"values.yaml")))
    helm = tool(f"helm{major}")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    for part in ("values", "readme", "crds"):
        printed = subprocess.run([helm, "show", part, package], capture_output=True, env=environment, check=True).stdout
        code, out, _ = show(part, "charts/toy:1.0.0")
        assert (code == 0) is bool(printed)
        if part != "crds":
            # Helm adds a line feed, and removes a byte order mark.
            assert printed == b"" if code else printed == out.removeprefix(BOM) + b"\n"
        elif code == 0:
            assert without_marks(printed) == without_marks(out)


def without_marks(documents: bytes) -> list[bytes]:
    """Return the lines of YAML documents without separators. Helm 3 prints no `---`. Helm 4 prints `---` before each file, and empty lines."""
    return [one for one in documents.split(b"\n") if one not in (b"", b"---")]


def test_crds_are_those_of_all_charts_in_the_order_of_helm(mar: Registry, show: Show) -> None:
    mid = chart("mid", "1.0.0", file("mid/charts/sub-1.0.0.tgz", SUB), file("mid/crds/m.yaml", b"mid: 1\n"))
    files = {
        "charts/mid-1.0.0.tgz": mid,
        "charts/_off/crds/x.yaml": b"no",
        "crds/b.yaml": b"b: 1",
        "charts/un/crds/u.yml": b"un: 1\n",
        "Chart.yaml": METADATA,
        "crds/a.json": b"{}\n",
    }
    add(mar, files)
    code, out, _ = show("crds", "charts/toy:1.0.0")
    assert (code, out) == (0, b"b: 1\n---\n{}\n---\nmid: 1\n---\nsub: 1\n---\nun: 1\n")
    assert json.loads(show("crds", "charts/toy:1.0.0", "--json")[1])["data"]["path"] == "crds"


def test_one_file_of_crds_stays_as_it_is(mar: Registry, show: Show) -> None:
    add(mar, {"Chart.yaml": METADATA, "crds/a.yaml": b"\r\n---\r\na: 1"})
    assert show("crds", "charts/toy:1.0.0")[:2] == (0, b"\r\n---\r\na: 1")
    assert json.loads(show("crds", "charts/toy:1.0.0", "--json")[1])["data"]["path"] == "crds/a.yaml"


def test_a_broken_subchart_never_counts_as_one_without_crds(mar: Registry, show: Show) -> None:
    add(mar, {"Chart.yaml": METADATA, "values.yaml": b"a: 1\n", "crds/a.yaml": b"a: 1\n", "charts/bad-1.tgz": SUB[:-9]})
    code, out, err = show("crds", "charts/toy:1.0.0")
    assert (code, out) == (5, b"")
    assert "charts/bad-1.tgz" in err
    assert show("values", "charts/toy:1.0.0")[:2] == (0, b"a: 1\n")


def test_a_part_that_is_a_link_is_refused_and_other_links_are_ignored(mar: Registry, show: Show) -> None:
    links = [
        header("toy/README.md", sort=b"2", link=b"docs/README.md"),
        pax({"linkpath": "../../etc/passwd"}) + header("toy/a", sort=b"2"),
        header("././@LongLink", 4, sort=b"K", magic=b"ustar  \0") + b"abc\0".ljust(512, b"\0") + header("toy/b", sort=b"1"),
    ]
    add(mar, {"Chart.yaml": METADATA, "values.yaml": b"a: 1\n"}, *links)
    assert show("values", "charts/toy:1.0.0")[:2] == (0, b"a: 1\n")
    code, out, err = show("readme", "charts/toy:1.0.0")
    assert (code, out) == (4, b"")
    assert "README.md" in err
    assert "link" in err


def test_a_part_has_20_mib_at_most(mar: Registry, show: Show) -> None:
    most = 20 << 20
    for size, code in ((most, 0), (most + 1, 4)):
        add(mar, {"Chart.yaml": METADATA, "values.yaml": b"#".ljust(size, b"x"), "README.md": b"r"})
        found, out, err = show("values", "charts/toy:1.0.0")
        assert (found, len(out)) == (code, size if code == 0 else 0), err
        assert show("readme", "charts/toy:1.0.0")[:2] == (0, b"r")
    add(mar, {"Chart.yaml": METADATA, "crds/a.yaml": bytes(most), "crds/b.yaml": b"b"})
    assert show("crds", "charts/toy:1.0.0")[:2] == (4, b"")


def test_an_error_about_a_missing_part_names_the_existing_parts(mar: Registry, show: Show) -> None:
    add(mar, {"Chart.yaml": METADATA, "values.yaml": b"", "charts/sub-1.0.0.tgz": SUB})
    code, out, err = show("params", "charts/toy:1.0.0")
    assert (code, out) == (3, b"")
    assert "it has `chart`, `values`, `crds`" in err
    error = json.loads(show("schema", "charts/toy:1.0.0", "--json")[1])["error"]
    assert (error["code"], error["parts"]) == ("part-not-found", ["chart", "values", "crds"])
    assert show("values", f"{MODULE}:0.14.0")[0] == 3
    code, _, err = show("values", f"{IMAGE}:latest", "--platform", "linux/amd64")
    assert code == 3
    assert "marfetch inspect" in err
    assert show("all", "charts/toy:1.0.0")[0] == 2


@pytest.mark.parametrize("package", [b"no archive", targz(file("toy/values.yaml", b"")), SUB[:-9]], ids=["no archive", "no chart", "cut"])
def test_a_broken_package_prints_nothing(mar: Registry, show: Show, package: bytes) -> None:
    add_chart(mar, "charts/toy", "1.0.0", package)
    code, out, err = show("values", "charts/toy:1.0.0")
    assert (code, out) == (5, b"")
    assert "marfetch pull" in err


# -- Bicep modules


TEMPLATE: dict[str, Any] = {
    "definitions": {"lock/Type": {"type": "object", "nullable": True}, "a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}},
    "parameters": {
        "name": {"type": "string", "metadata": {"description": "The name.\nOf it."}},
        "size": {"type": "int", "defaultValue": 0},
        "tags": {"type": "object", "nullable": True},
        "lock": {"$ref": "#/definitions/lock~1Type"},
        "circle": {"$ref": "#/definitions/a"},
        "place": {"type": "string", "defaultValue": "[resourceGroup().location]"},
    },
    "outputs": {"id": {"type": "string", "value": "x", "metadata": {"description": "\x1b[31mThe id."}}},
}


def test_parameters_and_outputs_of_a_module(mar: Registry, show: Show) -> None:
    add_module(mar, "1.0.0", TEMPLATE)
    code, out, _ = show("params", "bicep/foo:1.0.0")
    assert (code, out.decode().splitlines()) == (
        0,
        [
            "name\tstring\trequired\t-\tThe name. Of it.",
            "size\tint\toptional\t0\t-",
            "tags\tobject\toptional\t-\t-",
            "lock\tlock/Type\toptional\t-\t-",
            "circle\ta\trequired\t-\t-",
            'place\tstring\toptional\t"[resourceGroup().location]"\t-',
            "id\tstring\toutput\t-\t\\x1b[31mThe id.",
        ],
    )
    data = json.loads(show("params", "bicep/foo:1.0.0", "--json")[1])["data"]
    assert data["parameters"][0] == {
        "name": "name",
        "type": "string",
        "required": True,
        "default": None,
        "description": "The name.\nOf it.",
    }
    assert data["parameters"][1] == {"name": "size", "type": "int", "required": False, "default": 0, "description": None}
    assert data["outputs"] == [{"name": "id", "type": "string", "description": "\x1b[31mThe id."}]
    assert data["part"] == "params"


def test_a_module_without_parameters_has_empty_lists(mar: Registry, show: Show) -> None:
    add_module(mar, "1.0.0", {})
    code, out, err = show("params", "bicep/foo:1.0.0")
    assert (code, out) == (0, b"")
    assert "no parameters" in err
    data = json.loads(show("params", "bicep/foo:1.0.0", "--json")[1])["data"]
    assert (data["parameters"], data["outputs"]) == ([], [])


@pytest.mark.parametrize("template", [{"parameters": []}, {"outputs": {"a": "b"}}, {"definitions": 1}], ids=str)
def test_a_malformed_template_is_refused(mar: Registry, show: Show, template: dict[str, Any]) -> None:
    add_module(mar, "1.0.0", template)
    assert show("params", "bicep/foo:1.0.0")[:2] == (5, b"")


# -- options that all commands share


def test_versions_cache_and_signatures_work_as_elsewhere(mar: Registry, show: Show, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = show("chart", ALB, "--version", "~1.7")
    assert (code, out) == (0, b"apiVersion: v2\nname: alb-controller\nversion: 1.7.12\n"), err
    before = len(mar.asked)
    assert show("values", f"{ALB}:1.7.12", "--offline")[0] == 0
    assert len(mar.asked) == before
    assert show("values", f"{ALB}:1.7.9", "--offline")[0] == 7
    assert show("values", f"{ALB}:9.9.9")[0] == 3
    monkeypatch.setenv("MARFETCH_VERIFY", "policy")
    code, out, _ = show("values", f"{ALB}:1.7.12")
    assert (config.is_dir(), code, out) == (True, 6, b"")


def test_a_terminal_gets_no_control_characters(mar: Registry, tmp_path: Path) -> None:
    add(mar, {"Chart.yaml": METADATA, "values.yaml": BOM + b"a:\tb\x1b]0;x\x07\r\n\xc2\x9bc\xe2\x80\xae\xff"})
    window = Window()
    environment = surroundings(mar, tmp_path / "cache")
    done = subprocess.run(
        line("show", "values", "charts/toy:1.0.0", "--quiet"), stdout=window.stream, stderr=subprocess.PIPE, env=environment, check=True
    )
    assert done.returncode == 0
    assert window.text().expandtabs() == "a:\tb]0;x\nc\ufffd\n".expandtabs()


def test_a_runner_gets_no_logging_commands_and_a_file_gets_all_bytes(mar: Registry, run: Run, tmp_path: Path) -> None:
    text = b"::add-mask::a\n##vso[task.complete]\n\xff\n"
    add(mar, {"Chart.yaml": METADATA, "values.yaml": text})
    words, runner = ("show", "values", "charts/toy:1.0.0"), {"GITHUB_ACTIONS": "true"}
    environment = surroundings(mar, tmp_path / "cache", **runner)
    done = subprocess.run(line(*words), capture_output=True, env=environment, check=True)
    assert done.stdout == b": :add-mask::a\n# #vso[task.complete]\n\xff\n"
    with (tmp_path / "values.yaml").open("wb") as out:
        assert run(*words, environment=runner, stdout=out).returncode == 0
    assert (tmp_path / "values.yaml").read_bytes() == text
    found = run(*words, "--json", environment=runner)
    assert "::" not in found.stdout
    assert document(found)["data"]["content"] == text.decode("utf-8", "replace")


def test_wrong_bytes_are_never_printed(mar: Registry, show: Show) -> None:
    raw = targz(file("toy/Chart.yaml", METADATA), file("toy/values.yaml", b"a: 1\n"))
    add_chart(mar, "charts/toy", "1.0.0", raw)
    mar.on("data").answers_with(targz(file("toy/Chart.yaml", METADATA), file("toy/values.yaml", b"a: 2\n")))
    assert show("values", "charts/toy:1.0.0")[:2] == (5, b"")
