"""Strict JSON."""

from __future__ import annotations

import pytest

from marfetch.document import parse_json
from marfetch.errors import IntegrityError

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
    "a name twice": (b'{"a":1,"a":2}', "`a` stands twice"),
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
