"""The project file: strict parsing, errors with line and column, "did you mean" hints, and a matching JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from marfetch.errors import Error, InputError, PolicyError, StorageError
from marfetch.project.wanted import json_schema, parse_project, read_project

from ..world.paths import ROOT

PATH = Path("marfetch.yaml")
HEAD = "schema: 1\nartifacts:\n"


def item(*lines: str) -> bytes:
    return (HEAD + "  - reference: aks/foo\n" + "".join(f"    {line}\n" for line in lines)).encode()


def test_every_key_of_a_project_file_is_read() -> None:
    project = parse_project(
        b"""# a comment
schema: 1
endpoint: china
artifacts:
  - reference: application-lb/charts/alb-controller
    version: ^1.7
    name: alb
    destination: ./charts/deep/
    kind: chart
    media-type: [a/b, "c/*"]
    artifact-type: x/y
    platform: linux/amd64
    untar: true
    referrers: application/spdx+json
    verify: true
  - {reference: "aks/foo:1.2.3", referrers: true}
""",
        PATH,
    )
    first, second = project.items
    assert project.endpoint == "china"
    assert (first.name, str(first.reference), first.version, first.destination) == (
        "alb",
        "application-lb/charts/alb-controller",
        "^1.7",
        "charts/deep",
    )
    assert (first.kinds, first.media_types, first.artifact_types, first.platform) == (("chart",), ("a/b", "c/*"), ("x/y",), "linux/amd64")
    assert (first.untar, first.referrers, first.verify) == (True, ("application/spdx+json",), True)
    assert (second.name, second.reference.tag, second.destination, second.referrers) == ("foo", "1.2.3", ".", ("*",))
    assert project.lock_path == Path("marfetch.lock")


@pytest.mark.parametrize(
    ("written", "version"),
    [("1.10", "1.10"), ("1.70", "1.70"), ("1", "1"), ("'1.10'", "1.10"), ("^1.7", "^1.7"), ("1.2.3", "1.2.3"), ('">=1 <2"', ">=1 <2")],
)
def test_a_version_is_what_was_written_with_or_without_quotes(written: str, version: str) -> None:
    assert parse_project(item(f"version: {written}"), PATH).items[0].version == version


REFUSED: dict[str, tuple[bytes, str, int, int]] = {
    # text of the file, message, line, column
    "a mistyped key": (item("verison: ^1"), "`verison` is not a known key", 4, 5),
    "an unknown key": (item("colour: red"), "`colour` is not a known key", 4, 5),
    "an unknown key of the file": (b"schema: 1\nartefacts: []\n", "`artefacts` is not a known key", 2, 1),
    "a key without a value": (item("version:"), "`version` has no value", 4, 5),
    "no reference": (HEAD.encode() + b"  - name: x\n", "`reference` is missing", 3, 5),
    "a reference that is none": (HEAD.encode() + b"  - reference: aks/Foo\n", "`Foo`", 3, 5),
    "a reference that is a number": (HEAD.encode() + b"  - reference: 12\n", "not a string", 3, 5),
    "an item that is a text": (HEAD.encode() + b"  - aks/foo\n", "expected a mapping", 3, 5),
    "a range that is none": (item("version: latest"), "`latest` is not a version range", 4, 5),
    "a range that is a list": (item("version: [1]"), "a list, not a string", 4, 5),
    "a range that is true": (item("version: true"), "not a string", 4, 5),
    "a tag and a range": (HEAD.encode() + b"  - reference: aks/foo:1\n    version: ^1\n", "so it cannot have", 4, 5),
    "an unknown kind": (item("kind: charts"), "`charts` is not a kind", 4, 5),
    "a platform that is none": (item("platform: linux"), "platform", 4, 5),
    "a flag that is a text": (item("untar: yes"), "neither `true` nor `false`", 4, 5),
    "an absolute destination": (item("destination: /etc"), "absolute", 4, 5),
    "a destination that leads out": (item("destination: a/../../b"), "leads out", 4, 5),
    "a name that is none": (item("name: a/b"), "is not a valid name", 4, 5),
    "an empty list": (item("kind: []"), "neither a string nor a list", 4, 5),
    "no schema": (b"artifacts: []\n", "`schema` is missing", 1, 1),
    "another schema": (b"schema: 2\nartifacts: []\n", "`schema` is 2", 1, 1),
    "a schema that is true": (b"schema: true\nartifacts: []\n", "`schema` is True", 1, 1),
    "no artifacts": (b"schema: 1\n", "`artifacts` is missing", 1, 1),
    "artifacts that are a mapping": (b"schema: 1\nartifacts: {}\n", "a mapping, not a list", 2, 1),
    "an endpoint that is none": (b"schema: 1\nendpoint: moon\nartifacts: []\n", "`moon`", 2, 1),
    "an empty file": (b"", "empty", 1, 1),
    "a list": (b"- a\n", "expected a mapping", 1, 1),
    "two of one name": (HEAD.encode() + b"  - reference: a/foo\n  - reference: b/foo\n", "the first is in line 3", 4, 5),
    "two names that some file system takes for one": (item("name: a") + b"  - {reference: b/c, name: A}\n", "appears twice", 5, 22),
}


@pytest.mark.parametrize(("data", "says", "line", "column"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_its_place(data: bytes, says: str, line: int, column: int) -> None:
    with pytest.raises(InputError) as caught:
        parse_project(data, PATH)
    assert caught.value.exit_code == 2
    assert says in caught.value.message
    assert f"line {line}, column {column}" in caught.value.message
    assert (caught.value.context["line"], caught.value.context["column"]) == (line, column)


@pytest.mark.parametrize(
    "data",
    [b"schema: 1\nartifacts: [\n", b"schema: 1\nschema: 1\nartifacts: []\n", b"schema: 1\n---\nschema: 1\n", b"a: &x 1\nb: *x\n", b"\xff\xfe", b"a: !!python/name:os.system 1\n", b"<<<<<<< HEAD\nschema: 1\n=======\n"],
    ids=["open", "a key twice", "two documents", "an alias", "not UTF-8", "a tag", "merge markers"],
)  # fmt: skip
def test_yaml_beyond_json_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_project(data, PATH)
    assert caught.value.code == "wanted-invalid"
    assert "`marfetch.yaml`" in caught.value.message


def test_the_nearest_key_is_named() -> None:
    for wrong, right in (("media_type", "media-type"), ("Version", "version"), ("dest", "destination"), ("refrence", "reference")):
        with pytest.raises(InputError) as caught:
            parse_project(item(f"{wrong}: x"), PATH)
        assert caught.value.hint == f"did you mean `{right}`?"


@pytest.mark.parametrize("reference", ["http://mcr.microsoft.com/aks/foo", "https://user@mcr.microsoft.com/aks/foo", "127.1/aks/foo"])
def test_a_reference_that_can_hide_where_it_leads_is_refused_by_policy(reference: str) -> None:
    with pytest.raises(PolicyError, match="line 3"):
        parse_project(f"{HEAD}  - reference: {reference}\n".encode(), PATH)


def test_an_own_registry_may_be_an_ip_address() -> None:
    text = "schema: 1\nendpoint: https://192.0.2.17:5000\nartifacts:\n  - reference: 192.0.2.17:5000/aks/foo:1\n"
    assert parse_project(text.encode(), PATH).endpoint == "https://192.0.2.17:5000"


def test_a_file_that_is_not_there_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no project file"):
        read_project(tmp_path / "marfetch.yaml")
    with pytest.raises(StorageError):
        read_project(tmp_path)


def test_many_artifacts_are_read_in_one_piece() -> None:
    text = HEAD + "".join(f"  - reference: aks/foo{number}\n    version: ^1.{number}\n    destination: charts\n" for number in range(2_000))
    assert len(parse_project(text.encode(), PATH).items) == 2_000
    with pytest.raises(PolicyError, match="more than"):
        parse_project(b"schema: 1\n#" + b" " * (16 << 20), PATH)


# -- the schema for editors


def validator() -> object:
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(json_schema())


def test_the_schema_agrees_with_the_reader() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    check = jsonschema.Draft202012Validator(json_schema())
    assert check.is_valid(yaml.safe_load(item("version: ^1", "kind: [chart]", "referrers: true", "untar: false")))
    # The schema checks only the structure. It cannot check the syntax of ranges and references.
    by_form = ["a mistyped key", "an unknown key", "an unknown key of the file", "a key without a value", "no reference", "a reference that is a number", "an item that is a text", "a range that is a list", "a range that is true", "a name that is none", "an empty list", "no schema", "another schema", "no artifacts", "artifacts that are a mapping", "a list"]  # fmt: skip
    for name in by_form:
        assert not check.is_valid(yaml.safe_load(REFUSED[name][0])), name


def test_the_published_schema_is_that_of_the_reader() -> None:
    published = json.loads((ROOT / "docs" / "reference" / "marfetch.schema.json").read_text())
    assert published == json_schema()


def test_every_error_of_a_value_is_one_of_ours() -> None:
    for data in (value[0] for value in REFUSED.values()):
        with pytest.raises(Error):
            parse_project(data, PATH)


@pytest.mark.parametrize("version", [">=1", ">=1 <2", "> 1", ">1", ">1.2", "*", "!=1.2.3", "|1"])
def test_an_unquoted_range_that_yaml_reads_as_syntax_names_the_quotes(version: str) -> None:
    text = f"schema: 1\nartifacts:\n  - reference: aks/foo\n    version: {version}\n    name: x\n"
    with pytest.raises(InputError) as caught:
        parse_project(text.encode(), Path("marfetch.yaml"))
    assert (caught.value.code, caught.value.hint) == ("wanted-invalid", 'put the version in quotes, as in `version: ">=1"`')


def test_a_range_in_a_block_is_read_and_other_mistakes_name_no_quotes() -> None:
    text = "schema: 1\nartifacts:\n  - reference: aks/foo\n    version: >-\n      ^1.7\n"
    assert parse_project(text.encode(), Path("marfetch.yaml")).items[0].version == "^1.7"
    with pytest.raises(InputError) as caught:
        parse_project((text + "    - x\n").encode(), Path("marfetch.yaml"))
    assert "quotes" not in (caught.value.hint or "")
