"""What is taken from oras-py, what is overridden, what is refused: nothing inherited reaches the network on its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import oras.provider
import oras.version
import pytest
import requests

from marfetch.client.session import Session
from marfetch.errors import PolicyError
from marfetch.reference import Reference
from marfetch.remote.registry import RefusingRegistry
from marfetch.remote.registry import Registry as Remote

from ..world.registry import Registry

USED = {
    # pure, or only the session and our own do_request
    "__init__": "the session, its cookie policy, the prefix",
    "__repr__": "text",
    "__str__": "text",
    "get_container": "names, which are read by our own grammar first",
    "set_header": "keeps a header that nothing of ours sends",
    "version": "text",
    "_check_200_response": "looks at a status",
    "_get_location": "reads a header",
    "_parse_manifest_ref": "reads a text",
    "_parse_response_errors": "reads a body",
    "_validate_path": "compares paths; pushing is not there",
}
OVERRIDDEN = {"__init__", "do_request", "get_manifest", "get_tags", "get_blob", "download_blob"}
REFUSED = {
    "_download_blob", "_do_paginated_request", "_put_upload", "_chunked_upload", "_upload_manifest", "_upload_blob", "blob_exists",
    "chunked_upload", "delete_tag", "delete_tags", "login", "logout", "pull", "push", "put_upload", "upload_blob", "upload_manifest",
}  # fmt: skip


def test_this_is_the_version_whose_inside_is_known() -> None:
    assert oras.version.__version__.startswith("0.2."), "look at docs/design.md, what of oras-py is unsafe, before a new one is taken"


def test_each_inherited_method_is_used_overridden_or_refused() -> None:
    inherited = {name for name, value in vars(oras.provider.Registry).items() if inspect.isfunction(value)}
    assert inherited == set(USED) | OVERRIDDEN | REFUSED


def test_what_is_overridden_and_refused_is_ours() -> None:
    for name in OVERRIDDEN | REFUSED:
        assert name in vars(Remote) or name in vars(RefusingRegistry), name


@pytest.fixture
def remote(client: Callable[..., Session]) -> Remote:
    one = client()
    return cast("Remote", one.connect(one.endpoint(Reference("aks/foo"))))


@pytest.mark.parametrize("name", sorted(REFUSED | {"get_manifest", "get_tags", "get_blob", "download_blob"}))
def test_a_refused_method_asks_nobody(remote: Remote, mar: Registry, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a request went out on oras-py's own way")

    monkeypatch.setattr(requests.Session, "request", never)
    monkeypatch.setattr(requests.Session, "send", never)
    with pytest.raises(NotImplementedError):
        getattr(remote, name)()
    assert mar.asked == []


def test_the_session_has_our_adapter_and_nothing_else(remote: Remote) -> None:
    assert set(map(type, remote.session.adapters.values())) == {type(remote.transport)}
    assert remote.session.trust_env is False
    with pytest.raises(requests.exceptions.InvalidSchema):
        remote.session.get("ftp://127.0.0.1/")


@pytest.mark.parametrize("url", ["https://evil.example/x", "http://127.0.0.1:1/", "http://10.0.0.1/", "https://user@mcr.microsoft.com/"])
def test_even_the_bare_session_cannot_reach_another_host(remote: Remote, mar: Registry, url: str) -> None:
    with pytest.raises(PolicyError):
        remote.session.get(url)
    with pytest.raises(PolicyError):
        remote.do_request(url)
    assert mar.asked == []


def test_the_bare_session_follows_no_redirect_astray(remote: Remote, mar: Registry) -> None:
    mar.on("base").redirects("https://evil.example/x")
    with pytest.raises(PolicyError):
        remote.session.get(f"http://{mar.host}/v2/")
    assert mar.kinds() == ["base"]


def test_a_request_of_oras_py_goes_through_our_transport(remote: Remote, mar: Registry) -> None:
    answer = remote.do_request(f"http://{mar.host}/v2/")
    assert answer.json() == {}
    assert mar.asked[0].headers["user-agent"].startswith("marfetch/")
    with pytest.raises(NotImplementedError):
        remote.do_request(f"http://{mar.host}/v2/", "PUT", data=b"x")
