"""marfetch uses only the parts of oras-py that are listed here. The parts have not changed, and none contacts another host."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import oras.container
import oras.defaults
import oras.provider
import oras.version
import pytest
import requests

from marfetch.client.session import Session
from marfetch.errors import PolicyError
from marfetch.oci import INDEX_TYPES, MANIFEST_TYPES
from marfetch.reference import Reference
from marfetch.remote.registry import Registry as Remote
from marfetch.remote.transport import StreamedResponse

from ..world.paths import ROOT
from ..world.registry import Registry

USED = {
    "oras.container.Container": "names, which are read by our own grammar first",
    "oras.provider.Registry": "made, and then asked for nothing but the next two",
    "self.oras.prefix": "the scheme",
    "self.oras.session": "a session without cookies, to mount our transport on",
}
ADDRESSES = {
    "api_prefix": "aks/foo",
    "get_blob_url('sha256:0')": "h:1/v2/aks/foo/blobs/sha256:0",
    "registry": "h:1",
}
"""An expression on a container → its value for `h:1/aks/foo`."""


def dotted(node: ast.AST) -> str:
    """Return an expression as `a.b.c`, or an empty string if it has another form."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def asked_of(tree: ast.AST, holder: Callable[[ast.expr], bool]) -> set[str]:
    """Return the attributes that are read from the expressions for which `holder` returns True."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and holder(node.value)}


@pytest.fixture(scope="module")
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((ROOT / "marfetch").rglob("*.py"))]


@pytest.fixture
def remote(client: Callable[..., Session]) -> Remote:
    one = client()
    return cast("Remote", one.connect(one.endpoint(Reference("aks/foo"))))


def test_the_tested_version_of_oras_py_is_installed() -> None:
    assert oras.version.__version__.startswith("0.2."), (
        "before you use another part of oras-py, read in docs/design.md which parts are unsafe"
    )


def test_nothing_else_of_oras_py_is_used(trees: list[ast.Module]) -> None:
    names = {dotted(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used = {name for name in names if name.count(".") == 2 and name.startswith(("oras.", "self.oras."))}
    assert used == set(USED)
    imported = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("oras")
    ]
    assert not imported, "import it by its full name, so that this test can find it"


def test_jsonschema_loads_when_oras_py_validates_and_not_before() -> None:
    code = """
import sys
import marfetch.remote.registry
import oras.oci
assert "jsonschema" not in sys.modules
layer = oras.oci.NewLayer(sys.executable)
assert layer["mediaType"]
real = sys.modules["jsonschema"]
import jsonschema
assert jsonschema is real and jsonschema.validate and not type(real).__name__.startswith("_")
try:
    oras.provider.jsonschema.validate({"size": "a"}, {"properties": {"size": {"type": "number"}}})
except jsonschema.ValidationError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("'a' is not of type 'number'\n", "")


DEFERRED = ("jsonschema", "charset_normalizer", "idna", "importlib.metadata")

ASKED = """
import sys
import email.header, email.utils, http.cookiejar, importlib.metadata, requests, urllib3.http2, urllib3.util.url
answer = requests.Response()
answer._content = "Füße, größer, schön: ein Text mit Umlauten".encode("iso-8859-1")
print(answer.apparent_encoding)
for text in ("https://[FE80::1%25eth0]:8443/a%2f?b=c d#e", "http://BÜCHER.example", "https://u:p@1.2.3.4:1/é", "//a b/", "https://[::1", "/x"):
    try:
        print(urllib3.util.url.parse_url(text))
    except urllib3.exceptions.LocationParseError as error:
        print(error)
print(requests.Request("GET", "http://bücher.example/ä?x=ü").prepare().url)
print([http.cookiejar.http2time(text) for text in ("Wed, 09 Feb 1994 22:23:32 GMT", "09-Feb-94", "1994-02-09 22:23", "09 FEB 1994 05:00 PST", "no")])
print(http.cookiejar.split_header_words(["a; b=\\"c d\\", e=f"]), http.cookiejar.is_HDN("1.2.3.4"), http.cookiejar.iso2time("1994-02-03T14:15:29 -0100"))
print(email.header.decode_header("=?utf-8?b?w6Q=?= b"), email.utils.formataddr(("a (b)", "c@d.example")))
print(email.utils.decode_params([("x", "y"), ("name*0*", "utf-8''%C3"), ("name*1*", "%A4")]))
print(importlib.metadata.version("requests") == requests.__version__)
try:
    urllib3.http2.inject_into_urllib3()
except importlib.metadata.PackageNotFoundError as error:
    print(error)
"""
"""A program that uses what marfetch does not load."""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_deferred_works_as_without_marfetch() -> None:
    loaded = run("import marfetch.remote.registry" + ASKED)
    assert loaded == run(ASKED)
    assert "xn--bcher-kva" in loaded


def test_nothing_that_is_deferred_is_loaded_or_left_behind() -> None:
    code = f"""
import re, sys
compiled = re.compile
import marfetch.remote.registry
assert re.compile is compiled
print([name for name in {DEFERRED} if name in sys.modules])
import urllib3.util.url
pattern = urllib3.util.url._IPV6_ADDRZ_RE
print(isinstance(pattern, re.Pattern), bool(pattern.match("[::1]")))
"""
    assert run(code) == "[]\nFalse True\n"


@pytest.mark.parametrize("name", DEFERRED)
def test_a_program_keeps_what_it_has_loaded(name: str) -> None:
    code = f"import {name}, sys; had = sys.modules[{name!r}]; import marfetch.remote.registry; print(sys.modules[{name!r}] is had)"
    assert run(code) == "True\n"


def test_oras_py_gets_the_jsonschema_of_the_program() -> None:
    assert run("import jsonschema, marfetch.remote.registry, oras.provider; print(oras.provider.jsonschema is jsonschema)") == "True\n"


def test_nothing_else_of_a_container_is_used(trees: list[ast.Module]) -> None:
    def holds(value: ast.expr) -> bool:
        return dotted(value) == "container" or (isinstance(value, ast.Call) and dotted(value.func) == "self._container")

    assert set().union(*(asked_of(tree, holds) for tree in trees)) == {name.partition("(")[0] for name in ADDRESSES}


@pytest.mark.parametrize(("expression", "said"), ADDRESSES.items(), ids=ADDRESSES)
def test_a_container_says_what_it_said(expression: str, said: str) -> None:
    container = oras.container.Container("h:1/aks/foo")
    assert eval(f"container.{expression}", {"container": container}) == said


def test_the_media_types_are_those_of_manifests_and_indexes() -> None:
    assert set(oras.defaults.default_manifest_accepted_media_types) == MANIFEST_TYPES | INDEX_TYPES


@pytest.mark.parametrize("insecure", [True, False])
def test_a_registry_of_oras_py_is_made_without_asking_anybody(monkeypatch: pytest.MonkeyPatch, insecure: bool) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("oras-py sent a request")

    monkeypatch.setattr(requests.Session, "send", never)
    monkeypatch.setattr("builtins.open", never)  # oras-py must not read files, such as Docker's configuration
    assert list(inspect.signature(oras.provider.Registry).parameters) == ["hostname", "insecure", "tls_verify", "auth_backend"]
    made = oras.provider.Registry(hostname="h:1", insecure=insecure, tls_verify=True)
    assert type(made.session) is requests.Session
    assert made.prefix == ("http" if insecure else "https")
    policy = cast("Any", made.session.cookies)._policy
    assert type(policy) is DefaultCookiePolicy
    assert policy.allowed_domains() == ()


METHODS = sorted(name for name, value in vars(oras.provider.Registry).items() if inspect.isfunction(value) and not name.startswith("__"))


@pytest.mark.parametrize("name", METHODS)
def test_no_method_of_oras_py_is_ours(remote: Remote, name: str) -> None:
    assert not hasattr(remote, name)


def test_the_session_has_our_adapter_and_nothing_else(remote: Remote) -> None:
    session = remote.oras.session
    assert set(map(type, session.adapters.values())) == {type(remote.transport)}
    assert session.trust_env is False
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("ftp://127.0.0.1/")


@pytest.mark.parametrize("url", ["https://evil.example/x", "http://127.0.0.1:1/", "http://10.0.0.1/", "https://user@mcr.microsoft.com/"])
def test_even_the_bare_session_cannot_reach_another_host(remote: Remote, mar: Registry, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # oras-py retries after every failure
    with pytest.raises(PolicyError):
        remote.oras.session.get(url)
    with pytest.raises(PolicyError):
        remote.oras.do_request(url)
    assert mar.asked == []


def test_the_bare_session_follows_no_redirect_astray(remote: Remote, mar: Registry) -> None:
    mar.on("base").redirects("https://evil.example/x")
    with pytest.raises(PolicyError):
        remote.oras.session.get(f"http://{mar.host}/v2/")
    assert mar.kinds() == ["base"]


def test_a_request_of_oras_py_goes_through_our_transport(remote: Remote, mar: Registry) -> None:
    answer = remote.oras.do_request(f"http://{mar.host}/v2/")
    assert answer.json() == {}
    assert isinstance(answer, StreamedResponse)
    assert mar.kinds() == ["base"]
