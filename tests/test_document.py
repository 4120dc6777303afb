"""Strict JSON and safe YAML."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marfetch.document import MAX_YAML_SIZE, parse_json, parse_yaml
from marfetch.errors import IntegrityError, PolicyError

GOOD = {
    "object": (b'{"a":1,"b":[true,null,"x"]}', {"a": 1, "b": [True, None, "x"]}),
    "white space": (b' \n{ "a" : 1.5 } ', {"a": 1.5}),
    "a 64-bit number": (b"9223372036854775807", 9223372036854775807),
    "depth 64": (b"[" * 64 + b"]" * 64, None),
}

BAD = {
    "empty": (b"", "expecting value"),
    "not UTF-8": (b'{"a":"\xe9"}', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "a name twice": (b'{"a":1,"a":2}', "`a` appears twice"),
    "NaN": (b'{"a":NaN}', "`NaN`"),
    "Infinity": (b"[-Infinity]", "`-Infinity`"),
    "a number of 100,000 digits": (b"1" * 100_000, "100000 digits"),
    "200,000 brackets": (b"[" * 200_000, "nested"),
    "depth 65": (b"[" * 65 + b"]" * 65, "nested"),
    "junk behind it": (b"{} x", "extra data"),
    "a control character in a text": (b'"\x01"', "control character"),
    "HTML": (b"<html></html>", "expecting value"),
}


@pytest.mark.parametrize(("data", "value"), GOOD.values(), ids=GOOD)
def test_json_of_the_specification_is_read(data: bytes, value: object) -> None:
    parsed = parse_json(data, "the text")
    assert value is None or parsed == value


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_everything_else_is_malformed_and_the_message_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_json(data, "the text")
    assert caught.value.code == "malformed"
    assert reason in caught.value.message
    assert caught.value.message.startswith("the text is malformed")


# -- YAML

GOOD_YAML: dict[str, tuple[bytes, Any]] = {
    "a chart": (b"apiVersion: v2\nname: toy\nversion: 1.2.3\n", {"apiVersion": "v2", "name": "toy", "version": "1.2.3"}),
    "nothing": (b"", None),
    "only a comment": (b"# nothing\n", None),
    "a byte order mark": (b"\xef\xbb\xbfa: b\n", {"a": "b"}),
    "scalars of the core schema": (
        b"[~, null, true, False, 12, -3, 0o17, 0x1F, 1.5, 1e3, '12', \"true\"]",
        [None, None, True, False, 12, -3, 15, 31, 1.5, 1000.0, "12", "true"],
    ),
    "what only YAML 1.1 takes for something else": (b"[yes, on, 2024-01-02, 12:30:45, 1_000, =, <<]", None),
    "a key that is a number": (b"1: x\n", {"1": "x"}),
    "block scalars": (b"a: |\n  one\n  two\nb: >-\n  one\n  two\n", {"a": "one\ntwo\n", "b": "one two"}),
    "depth 64": (b"[" * 64 + b"]" * 64, None),
    "an end mark": (b"---\na: b\n...\n", {"a": "b"}),
}

BAD_YAML: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b"a: \xe9", "not UTF-8 at byte 3"),
    "UTF-16": ("a: b".encode("utf-16"), "not UTF-8"),
    "a control character": (b"a: b\nc: \x07", "line 2, column 4"),
    "no YAML": (b"a: b\n c: d: e", "line 2, column"),
    "an alias": (b"a: &x 1\nb: *x\n", "an anchor is not allowed at line 1, column 4"),
    "an alias of nothing": (b"b: *x\n", "an alias is not allowed at line 1, column 4"),
    "an anchor of a key": (b"&x a: b\n", "an anchor"),
    "an anchor of a list": (b"a: &x [1]\n", "an anchor"),
    "the python tag": (b"a: !!python/object/apply:os.system [id]\n", "a tag is not allowed at line 1, column 4"),
    "a plain tag": (b"a: !!str 1\n", "a tag"),
    "a tag of no meaning": (b"a: ! 1\n", "a tag"),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", "the key `a` appears twice at line 3, column 1"),
    "a key twice, once quoted": (b"1: x\n'1': y\n", "appears twice"),
    "a list as a key": (b"? [a]\n: b\n", "a key is not a string"),
    "two documents": (b"a: 1\n---\nb: 2\n", "a second document begins at line 2, column 1"),
    "depth 65": (b"[" * 65 + b"]" * 65, "nested more than 64 deep at line 1, column 65"),
    "500,000 brackets": (b"[" * 500_000, "nested"),
    "mappings, deep": (b"{a: " * 65 + b"}" * 65, "nested"),
    "dashes, deep": (b"- " * 400 + b"x", "nested"),
    "a number of 100 digits": (b"a: " + b"1" * 100, "100 digits, more than 19 at line 1, column 4"),
    "not a number": (b"a: .nan", "`.nan`"),
    "an open bracket": (b"a: [1, 2", " at line "),
    "a tab": (b"a:\n\tb: c\n", "line 2, column 1"),
}


@pytest.fixture(params=["in C", "in Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in Python":
        monkeypatch.delattr(yaml, "CSafeLoader")
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("data", "value"), GOOD_YAML.values(), ids=GOOD_YAML)
def test_yaml_that_says_what_json_can_say_is_read(data: bytes, value: object) -> None:
    parsed = parse_yaml(data, "the text")
    if data.startswith(b"[yes"):
        assert parsed == data.decode().strip("[]").split(", ")
    else:
        assert parsed == value or data.startswith(b"[[")


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("data", "reason"), BAD_YAML.values(), ids=BAD_YAML)
def test_other_yaml_is_malformed_and_the_message_says_where(data: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_yaml(data, "the text")
    assert caught.value.code == "malformed"
    assert reason in caught.value.message
    assert caught.value.message.startswith("the text is malformed")


def test_json_has_a_largest_number_of_values_counted_before_any_is_built() -> None:
    assert parse_json(b"[1,2,3]", "the text", most=2) == [1, 2, 3]
    tracemalloc.start()
    try:
        with pytest.raises(PolicyError) as caught:
            parse_json(b"[" + b"[]," * 1_000_000 + b"0]", "the text")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (caught.value.code, caught.value.exit_code) == ("limit-passed", 4)


def test_yaml_has_a_largest_size() -> None:
    assert parse_yaml(b"#" * MAX_YAML_SIZE, "the text") is None
    with pytest.raises(PolicyError) as caught:
        parse_yaml(b"#" * (MAX_YAML_SIZE + 1), "the text")
    assert caught.value.code == "limit-passed"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(st.characters(categories=["L", "N", "P", "Zs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=["L", "N"])), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@given(JSON_VALUES)
def test_yaml_reads_json_as_json_does(value: Any) -> None:
    assert parse_yaml(json.dumps(value, ensure_ascii=False).encode(), "the text") == value


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_anything_but_a_value_or_one_clear_failure(data: bytes) -> None:
    with suppress(IntegrityError):
        parse_yaml(data, "the text")
