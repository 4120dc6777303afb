"""Addresses: every URL parser reads the same host that marfetch checks."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from marfetch.endpoint import Address
from marfetch.errors import Error

pieces = st.sampled_from(
    [
        "https://",
        "http://",
        "mcr.microsoft.com",
        "evil.example",
        "@",
        ":",
        "\\",
        "/",
        "//",
        "?",
        "#",
        "%",
        "%40",
        "[",
        "]",
        "[::1]",
        "127.0.0.1",
        ".",
        "..",
        " ",
        "\t",
        "\n",
        "é",
        "a",
        "1",
        ":443",
        ":80",
        "user",
        "pass",
        "data.",
        "x=1",
        "\x00",
        ";",
        "&",
    ]
)
urls = st.lists(pieces, max_size=8).map("".join) | st.text(max_size=40) | st.text(max_size=30).map(lambda text: f"https://{text}")


@given(urls)
def test_every_accepted_address_has_one_host_for_all_parsers(url: str) -> None:
    with contextlib.suppress(Error):
        address = Address.parse(url)
        for text in (url, address.url):
            seen = parse_url(text)
            assert (seen.host or "").lower() == address.host.name
            assert (seen.port or {"https": 443, "http": 80}[address.scheme]) == address.host.port
            split = urlsplit(text)
            assert f"{split.hostname}" == address.host.name.strip("[]")
            assert split.username is None


@given(urls)
def test_an_address_is_read_back_to_itself(url: str) -> None:
    with contextlib.suppress(Error):
        address = Address.parse(url)
        assert Address.parse(address.url) == address
