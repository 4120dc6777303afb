"""Credentials come from the configuration of Helm and Docker, and only the user's own registry gets them, never MAR."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.endpoint import Address, Endpoint, Preference
from marfetch.errors import IntegrityError, PolicyError, RemoteError
from marfetch.reference import Host, Reference
from marfetch.remote import credentials
from marfetch.remote.auth import Authority, challenges
from marfetch.remote.credentials import find_credentials, forget_credentials

from ..world.answering import Answering, answering
from ..world.content import ALB, source_of
from ..world.progress import Heard
from ..world.registry import Registry

REGISTRY = Host("reg.example", 443)


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SECRET = packed("user:pass")
AUTHS = {"auths": {"reg.example": {"auth": SECRET}}}


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    forget_credentials()
    yield
    forget_credentials()


def basic_credentials(host: Host, repository: str = "aks/foo") -> str | None:
    return find_credentials(host, repository).basic


def identity_token(host: Host) -> str | None:
    return find_credentials(host, "aks/foo").identity


Logs = Callable[..., Path]
Made = Callable[..., Session]


@pytest.fixture
def docker(tmp_path: Path) -> Logs:
    """`docker(document)` writes Docker's `config.json` to the home directory, as `docker login` does."""

    def write(document: object, path: str = "home/.docker/config.json") -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        return file

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`helper(name, script)` puts a credential helper on the `PATH`, and returns the file in which it records its requests."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def write(name: str, script: str) -> Path:
        asked = tmp_path / f"asked-{name}"
        program = directory / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\necho "$1" $(cat) >> "{asked}"\n{script}\n')
        program.chmod(0o755)
        return asked

    return write


SAYS = """echo '{"ServerURL":"x","Username":"user","Secret":"pass"}'"""


# -- the sources of credentials


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({}, "home/.docker/config.json"),
        ({"DOCKER_CONFIG": "docker"}, "docker/config.json"),
        ({}, "home/.config/helm/registry/config.json"),
        ({"XDG_CONFIG_HOME": "xdg"}, "xdg/helm/registry/config.json"),
        ({"HELM_REGISTRY_CONFIG": "helm.json"}, "helm.json"),
    ],
)
def test_they_are_where_helm_and_docker_keep_them(
    docker: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], path: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    docker(AUTHS, path)
    assert basic_credentials(REGISTRY) == SECRET


def test_helm_comes_first_and_what_it_lacks_is_taken_from_docker(docker: Logs) -> None:
    docker({"auths": {"reg.example": {"auth": packed("helm:1")}}}, "home/.config/helm/registry/config.json")
    docker({"auths": {"reg.example": {"auth": packed("docker:1")}, "other.example": {"auth": packed("docker:2")}}})
    assert basic_credentials(REGISTRY) == packed("helm:1")
    assert basic_credentials(Host("other.example", 443)) == packed("docker:2")


@pytest.mark.parametrize("name", ["reg.example", "reg.example:443", "https://reg.example"])
def test_a_registry_is_found_under_the_names_that_tools_write(docker: Logs, name: str) -> None:
    docker({"auths": {name: {"auth": SECRET}}})
    assert basic_credentials(REGISTRY) == SECRET


@pytest.mark.parametrize("name", ["reg.example.evil.example", "sub.reg.example", "eg.example", "example", "reg.example:8443", "", "*"])
def test_credentials_of_another_registry_are_not_taken(docker: Logs, name: str) -> None:
    docker({"auths": {name: {"auth": SECRET}}})
    assert basic_credentials(REGISTRY) is None


def test_a_password_may_hold_anything(docker: Logs) -> None:
    docker({"auths": {"reg.example": {"auth": packed("user:p:ä\n\"'")}}})
    assert basic_credentials(REGISTRY) == packed("user:p:ä\n\"'")


@pytest.mark.parametrize(
    "auth", [packed("user:pass") + "\n", packed("user:pass")[:4] + "\r\n" + packed("user:pass")[4:], packed("user:pass\0\0")]
)
def test_line_breaks_and_final_nuls_are_not_part_of_a_password(docker: Logs, auth: str) -> None:
    docker({"auths": {"reg.example": {"auth": auth}}})
    assert basic_credentials(REGISTRY) == packed("user:pass")


def test_without_any_configuration_there_are_no_credentials() -> None:
    assert basic_credentials(REGISTRY) is None


MALFORMED = {
    "nothing": b"",
    "junk": b"\x00\x01",
    "not UTF-8": b'{"auths":{"reg.example":{"auth":"\xff"}}}',
    "half": b'{"auths":{"reg.exa',
    "a list": b"[]",
    "null": b"null",
    "auths as a list": {"auths": ["reg.example"]},
    "auths as null": {"auths": None},
    "an entry as a text": {"auths": {"reg.example": SECRET}},
    "no auth": {"auths": {"reg.example": {}}},
    "auth as a number": {"auths": {"reg.example": {"auth": 5}}},
    "auth that is empty": {"auths": {"reg.example": {"auth": ""}}},
    "auth that is not base64": {"auths": {"reg.example": {"auth": "user:pass"}}},
    "auth with a line break": {"auths": {"reg.example": {"auth": f"{SECRET}\r\nX-Evil: yes"}}},
    "auth outside ASCII": {"auths": {"reg.example": {"auth": "dXNlcjpwYXNz\u00fc"}}},
    "auth without a colon": {"auths": {"reg.example": {"auth": packed("user")}}},
    "helpers as a list": {"credHelpers": ["reg.example"], "auths": {}},
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_gives_none_and_the_next_one_is_read(docker: Logs, document: object) -> None:
    docker(document, "home/.config/helm/registry/config.json")
    assert basic_credentials(REGISTRY) is None
    forget_credentials()
    docker(AUTHS)
    assert basic_credentials(REGISTRY) == SECRET


def test_a_directory_in_the_place_of_the_file_gives_none(tmp_path: Path) -> None:
    (tmp_path / "home" / ".docker" / "config.json").mkdir(parents=True)
    assert basic_credentials(REGISTRY) is None


# -- helpers


def test_a_helper_of_the_registry_is_asked_by_its_protocol(docker: Logs, helper: Callable[..., Path]) -> None:
    asked = helper("toy", SAYS)
    docker({"credHelpers": {"reg.example": "toy", "other.example": "none"}})
    assert basic_credentials(REGISTRY) == SECRET
    assert asked.read_text() == "get reg.example\n"
    assert basic_credentials(REGISTRY) == SECRET
    assert asked.read_text().count("get") == 1  # the helper runs only once per process


@pytest.mark.parametrize(
    "auths", [{}, {"auths": None}, {"auths": {"reg.example": {}}}, {"auths": {"other.example": {"auth": packed("no:1")}}}]
)
def test_a_store_is_asked_whatever_the_file_lists(docker: Logs, helper: Callable[..., Path], auths: dict[str, Any]) -> None:
    asked = helper("store", SAYS)
    docker({"credsStore": "store", **auths})
    assert basic_credentials(REGISTRY) == SECRET
    assert asked.read_text() == "get reg.example\n"
    assert basic_credentials(Host("reg.example", 5000)) == SECRET
    assert asked.read_text() == "get reg.example\nget reg.example:5000\n"


def test_a_store_comes_before_the_file_and_a_helper_before_the_store(docker: Logs, helper: Callable[..., Path]) -> None:
    helper("store", """echo '{"Username":"store","Secret":"1"}'""")
    helper("toy", """echo '{"Username":"toy","Secret":"1"}'""")
    document: dict[str, Any] = {"credsStore": "store", "auths": {"reg.example": {"auth": packed("file:1")}}}
    docker(document)
    assert basic_credentials(REGISTRY) == packed("store:1")
    forget_credentials()
    docker(document | {"credHelpers": {"reg.example": "toy"}})
    assert basic_credentials(REGISTRY) == packed("toy:1")


PATHS = {
    "aks/foo": "aks/foo:1",
    "aks/foo/bar": "aks/foo:1",
    "aks/food": "aks:1",
    "aks": "aks:1",
    "other/aks": "host:1",
    "": "host:1",
}


@pytest.mark.parametrize(("repository", "found"), PATHS.items())
def test_the_longest_key_that_covers_a_repository_is_used(docker: Logs, repository: str, found: str) -> None:
    keys = {"reg.example/aks": "aks:1", "reg.example/aks/foo/": "aks/foo:1", "reg.example": "host:1", "sub.reg.example/aks/foo": "no:1"}
    docker({"auths": {key: {"auth": packed(text)} for key, text in keys.items()}})
    assert basic_credentials(REGISTRY, repository) == packed(found)


def test_the_key_of_a_path_is_for_that_path_only(docker: Logs, helper: Callable[..., Path]) -> None:
    helper("toy", SAYS)
    docker({"auths": {"reg.example/aks": {"auth": SECRET}}, "credHelpers": {"reg.example/other": "toy"}})
    assert [basic_credentials(REGISTRY, one) for one in ("aks/foo", "aks2/foo", "other/x", "")] == [SECRET, None, SECRET, None]


@pytest.mark.parametrize(
    "key", ["https://reg.example/v1/", "https://reg.example/v2/", "reg.example/v2/", "reg.example/", "http://reg.example"]
)
def test_the_address_of_an_api_is_for_the_whole_registry(docker: Logs, key: str) -> None:
    docker({"auths": {key: {"auth": SECRET}}})
    assert basic_credentials(REGISTRY) == SECRET


def test_the_key_of_an_ip_address_is_read_in_any_form(docker: Logs) -> None:
    docker({"auths": {"[2001:db8:0::17]:5000": {"auth": SECRET}, "192.0.2.17": {"auth": SECRET}}})
    assert basic_credentials(Host("[2001:db8::17]", 5000)) == SECRET
    assert basic_credentials(Host("192.0.2.17", 443)) == SECRET
    assert basic_credentials(Host("192.0.2.17", 5000)) is None


def test_a_file_with_a_byte_order_mark_is_read(docker: Logs) -> None:
    docker(b"\xef\xbb\xbf" + json.dumps(AUTHS).encode())
    assert basic_credentials(REGISTRY) == SECRET


WHY: dict[str, tuple[object, str]] = {
    "nothing": ({}, "there are no credentials for it in"),
    "a missing helper": ({"credsStore": "desktop"}, "`docker-credential-desktop` (`credsStore` of `CONFIG`) is not installed"),
    "a missing helper of one registry": (
        {"credHelpers": {"reg.example": "gone"}, "auths": {"reg.example": {}}},
        "`docker-credential-gone` (`credHelpers` of `CONFIG`) is not installed",
    ),
    "a helper without credentials": ({"credsStore": "empty"}, "`docker-credential-empty` (`credsStore` of `CONFIG`) has none"),
    "a helper that fails": ({"credsStore": "failing"}, "`docker-credential-failing` (`credsStore` of `CONFIG`) failed with exit status 3"),
    "a helper with a path": ({"credsStore": "../x"}, "`credsStore` of `CONFIG` is not the name of a credential helper"),
    "not JSON": (b'{"auths":{"reg.example":{"auth":"' + SECRET.encode(), "`CONFIG` is not valid JSON"),
    "UTF-16": (json.dumps(AUTHS).encode("utf-16"), "`CONFIG` is not valid JSON"),
    "a list": ([SECRET], "`CONFIG` is not a JSON object"),
    "not base64": ({"auths": {"reg.example": {"auth": "user:pass"}}}, "the entry `reg.example` of `CONFIG` has no valid `auth`"),
    "found": (AUTHS, "it does not accept the credentials of `CONFIG`"),
}


@pytest.mark.parametrize(("document", "reason"), WHY.values(), ids=WHY)
def test_a_refusal_says_why_there_are_no_valid_credentials(
    docker: Logs, helper: Callable[..., Path], document: object, reason: str
) -> None:
    helper("empty", "echo credentials not found in native keychain; exit 1")
    helper("failing", f"{SAYS}; exit 3")
    path = docker(document)
    authority = Authority(OWN)
    authority.answer("Basic realm=x", "aks/foo")
    use = authority.explain("aks/foo")
    assert use is not None
    assert reason.replace("CONFIG", str(path)) in use.reason
    assert "`docker login reg.example`" in use.hint
    for secret in (SECRET, "user:pass", '"pass"'):
        assert secret not in f"{use.reason} {use.hint}"


def test_credentials_for_a_scheme_that_is_not_supported_are_not_called_wrong(docker: Logs) -> None:
    docker(AUTHS)
    authority = Authority(OWN)
    assert authority.answer("Negotiate", "aks/foo") is None
    use = authority.explain("aks/foo")
    assert use is not None
    assert use.reason.startswith("it offers no authentication")


def test_mar_is_never_explained_by_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "find_credentials", lambda *_: pytest.fail("marfetch searched for credentials"))
    assert Authority(endpoint("global")).explain("aks/foo") is None


def test_each_repository_gets_its_own_credentials(docker: Logs, client: Made, mar: Registry) -> None:
    docker({"auths": {f"{mar.host}/{ALB}": {"auth": SECRET}, mar.host: {"auth": packed("host:1")}}})
    mar.on("tags").answers(401, WWW_Authenticate="Basic realm=x")
    with client() as session:
        for repository in (ALB, "aks/other"):
            bound, source = source_of(session, Reference.parse(repository))
            with pytest.raises(RemoteError):
                source.tags(bound)
    assert [authorization for _, authorization in given(mar)] == [None, f"Basic {SECRET}", f"Basic {packed('host:1')}"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_the_registry_with_its_port(docker: Logs, client: Made, mar: Registry, status: int) -> None:
    docker({"credsStore": "desktop"})
    mar.on("tags").answers(status, WWW_Authenticate="Basic realm=x")
    bound, source = source_of(client(), Reference.parse(ALB))
    with pytest.raises(RemoteError) as caught:
        source.tags(bound)
    assert caught.value.code == ("unauthorized" if status == 401 else "denied")
    assert caught.value.exit_code == 7
    assert "docker-credential-desktop" in caught.value.message
    assert f"`docker login {mar.host}`" in caught.value.hint


FAILING = {
    "says no": "echo credentials not found; exit 1",
    "says nothing": "true",
    "says junk": "echo hello",
    "says a list": "echo '[]'",
    "says half": """echo '{"Username":"user"}'""",
    "fails after an answer": f"{SAYS}; exit 3",
}


@pytest.mark.parametrize("script", FAILING.values(), ids=FAILING)
def test_a_helper_that_fails_is_passed_over(docker: Logs, helper: Callable[..., Path], script: str) -> None:
    asked = helper("toy", script)
    docker({"credHelpers": {"reg.example": "toy"}, "auths": {"reg.example": {"auth": packed("file:1")}}})
    assert basic_credentials(REGISTRY) == packed("file:1")
    assert asked.exists()


TOKENS = {
    "as `az acr login` leaves it": {"auths": {"reg.example": {"auth": packed("00000000-0000-0000-0000-000000000000:"), "identitytoken": "t0ken"}}},
    "of a helper": {"credHelpers": {"reg.example": "toy"}},
}  # fmt: skip


@pytest.mark.parametrize("document", TOKENS.values(), ids=TOKENS)
def test_an_identity_token_is_no_password(docker: Logs, helper: Callable[..., Path], document: object) -> None:
    helper("toy", """echo '{"Username":"<token>","Secret":"t0ken"}'""")
    docker(document)
    assert (basic_credentials(REGISTRY), identity_token(REGISTRY)) == (None, "t0ken")
    assert identity_token(Host("other.example", 443)) is None


def test_an_entry_with_a_password_has_no_identity_token(docker: Logs) -> None:
    docker(AUTHS)
    assert identity_token(REGISTRY) is None


class _Realm(Answering):
    """A registry that accepts only tokens of its own realm. Like Azure's, the realm exchanges an identity token for a token."""

    bodies: list[dict[str, str]] = []  # noqa: RUF012 - each test sets a new list

    def get(self) -> None:
        if self.headers.get("Authorization") == "Bearer fresh":
            self.say(200, b'{"tags":["1.2.3"]}')
        else:
            host = self.headers["Host"]
            challenge = f'Bearer realm="http://{host}/oauth2/token",service="{host}",scope="repository:aks/foo:pull"'
            self.say(401, WWW_Authenticate=challenge)

    def post(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.bodies.append({"path": self.path, **dict(urllib.parse.parse_qsl(body))})
        assert self.headers.get("Authorization") is None
        self.say(200, b'{"access_token":"fresh"}')


def test_an_identity_token_is_sent_to_the_realm_only(docker: Logs) -> None:
    handler = type("Handler", (_Realm,), {"bodies": []})
    with answering(handler) as port:
        host = f"127.0.0.1:{port}"
        docker({"auths": {host: {"identitytoken": "t0ken"}}})
        with Session(SessionOptions(Preference(option=f"http://{host}")), Heard()) as client:
            bound, source = source_of(client, Reference.parse(f"{host}/aks/foo"))
            assert source.tags(bound) == ["1.2.3"]
    assert handler.bodies == [  # type: ignore[attr-defined]
        {
            "path": "/oauth2/token",
            "grant_type": "refresh_token",
            "service": host,
            "scope": "repository:aks/foo:pull",
            "client_id": "marfetch",
            "refresh_token": "t0ken",
        }
    ]


def test_a_helper_that_hangs_is_given_up(docker: Logs, helper: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_HELPER_TIME", 0.3)
    asked = helper("toy", f"exec sleep 600; {SAYS}")
    docker({"credHelpers": {"reg.example": "toy"}})
    assert basic_credentials(REGISTRY) is None
    assert asked.exists()


@pytest.mark.parametrize("name", ["none-such", "toy/run", "toy; touch x", "", "t" * 65, 5, None, ["toy"], {"a": 1}])
def test_a_helper_that_is_no_name_is_never_run(
    docker: Logs, helper: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: Any
) -> None:
    asked = helper("toy", SAYS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-credential-toy").mkdir()
    (tmp_path / "docker-credential-toy" / "run").symlink_to(tmp_path / "bin" / "docker-credential-toy")
    docker({"credHelpers": {"reg.example": name}, "credsStore": name, "auths": {"reg.example": {}}})
    assert basic_credentials(REGISTRY) is None
    assert not asked.exists()


# -- the hosts that receive credentials


def endpoint(text: str, *data_hosts: str) -> Endpoint:
    return Preference(option=text, data_hosts=data_hosts).of(Reference("aks/foo"))


OWN = endpoint("https://reg.example", "data.reg.example")


@pytest.mark.parametrize(
    ("name", "host", "data"),
    [("global", "mcr.microsoft.com", "x.data.mcr.microsoft.com"), ("china", "mcr.azure.cn", "x.data.mcr.azure.cn")],
)
def test_mar_never_gets_credentials_and_none_are_read(
    docker: Logs, monkeypatch: pytest.MonkeyPatch, name: str, host: str, data: str
) -> None:
    docker({"auths": {one: {"auth": SECRET} for one in (host, f"{host}:443", f"https://{host}", data)}})
    monkeypatch.setattr(credentials, "find_credentials", lambda *_: pytest.fail("marfetch searched for credentials"))
    authority = Authority(endpoint(name))
    for challenge in ("Basic realm=x", f'Bearer realm="https://{host}/token"', 'Bearer realm="https://evil.example/"'):
        assert authority.answer(challenge, "aks/foo") is None
    authority.take_token(b'{"token":"abc"}', "aks/foo")
    for one in (host, data):
        assert authority.headers(Address.parse(f"https://{one}/v2/aks/foo"), "aks/foo") == {}


def test_an_own_registry_gets_them_from_its_first_challenge_on(docker: Logs) -> None:
    docker(AUTHS)
    authority = Authority(OWN)
    address = Address.parse("https://reg.example/v2/aks/foo/manifests/1")
    assert authority.headers(address, "aks/foo") == {}
    assert authority.answer("basic realm=x", "aks/foo") == "basic"
    assert authority.headers(address, "aks/foo") == {"Authorization": f"Basic {SECRET}"}
    assert authority.answer("Basic realm=x", "aks/foo") is None  # the credentials were wrong, so they are not sent again
    # The refused request carried no credentials, because another thread added them later. So they may still be right.
    assert authority.answer("Basic realm=x", "aks/foo", tried=False) == "basic"


@pytest.mark.parametrize(
    "address",
    [
        "https://data.reg.example/x",
        "http://reg.example/v2/",
        "https://reg.example:8443/v2/",
        "https://reg.example.evil.example/",
        "https://evil.example/",
    ],
)
def test_other_hosts_get_no_credentials(docker: Logs, address: str) -> None:
    docker({"auths": {name: {"auth": SECRET} for name in ("reg.example", "data.reg.example", "evil.example")}})
    authority = Authority(OWN)
    assert authority.answer("Basic realm=x", "aks/foo") == "basic"
    authority.take_token(b'{"token":"abc"}', "aks/foo")
    assert authority.headers(Address.parse(address), "aks/foo") == {}
    assert authority.headers(Address.parse("https://reg.example/"), "aks/foo") == {"Authorization": "Bearer abc"}


def test_one_authority_knows_nothing_of_another(docker: Logs) -> None:
    docker(AUTHS)
    one, other = Authority(OWN), Authority(OWN)
    one.answer("Basic realm=x", "aks/foo")
    assert other.headers(Address.parse("https://reg.example/"), "aks/foo") == {}


REALMS = {
    "plain": ('Bearer realm="https://reg.example/token"', "https://reg.example/token"),
    "with service and scope": ('Bearer realm="https://reg.example/t",service="a b",scope="repository:aks/foo:pull"', "https://reg.example/t?service=a+b&scope=repository%3Aaks%2Ffoo%3Apull"),
    "with a query of its own": ('bearer realm="https://reg.example/t?x=1", service=s', "https://reg.example/t?x=1&service=s"),
    "names in capitals": ('BEARER Realm="https://reg.example:443/t"', "https://reg.example/t"),
    "twice the same name": ('Bearer realm="https://reg.example/a",realm="https://evil.example/"', "https://reg.example/a"),
}  # fmt: skip


@pytest.mark.parametrize(("challenge", "url"), REALMS.values(), ids=REALMS)
def test_a_challenge_says_where_a_token_is_to_be_had(challenge: str, url: str) -> None:
    address = Authority(OWN).answer(challenge, "aks/foo")
    assert isinstance(address, Address)
    assert address.url == url


OFFERED: dict[str, tuple[str, list[tuple[str, dict[str, str]]]]] = {
    "one": ('Basic realm="own"', [("basic", {"realm": "own"})]),
    "two in one header": (
        'Basic realm="own", charset="UTF-8", Bearer realm="https://reg.example/t",service=s',
        [("basic", {"realm": "own", "charset": "UTF-8"}), ("bearer", {"realm": "https://reg.example/t", "service": "s"})],
    ),
    "schemes alone": ("Negotiate, NTLM,Bearer", [("negotiate", {}), ("ntlm", {}), ("bearer", {})]),
    "a scheme with a token": ("Negotiate YII+/ab==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
    "commas, quotes and schemes in a text": (
        r'Basic realm="a, Bearer realm=\"https://evil.example/\"", Bearer realm="https://reg.example/"',
        [("basic", {"realm": 'a, Bearer realm="https://evil.example/"'}), ("bearer", {"realm": "https://reg.example/"})],
    ),
    "an address without quotes": (
        "Bearer realm=https://reg.example/t,scope=x",
        [("bearer", {"realm": "https://reg.example/t", "scope": "x"})],
    ),
    "spaces everywhere": (' ,, Bearer  realm = "r" ,\t, service= "s" ', [("bearer", {"realm": "r", "service": "s"})]),
    "no end": ('Bearer realm="r, Basic realm="x"', [("bearer", {"realm": "r, Basic realm="})]),
    "a parameter without a scheme": ('realm="r", Basic', [("basic", {})]),
    "junk": ('=,"\\', []),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "found"), OFFERED.values(), ids=OFFERED)
def test_each_way_that_is_offered_is_read(text: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(one) for one in challenges(text)][: len(found)] == found


BOTH = [
    'Basic realm="own", Bearer realm="https://reg.example/t"',
    'Bearer realm="https://reg.example/t", Basic realm="own"',
    'Negotiate, Basic realm="own", Bearer realm="https://reg.example/t"',
]


@pytest.mark.parametrize("challenge", BOTH)
def test_a_token_is_preferred_to_a_password(docker: Logs, challenge: str) -> None:
    docker(AUTHS)
    authority = Authority(OWN)
    assert authority.answer(challenge, "aks/foo") == Address.parse("https://reg.example/t")
    assert authority.answer(challenge, "aks/foo", without={"bearer"}) == "basic"
    assert authority.answer(challenge, "aks/foo", without={"bearer", "basic"}) is None


@pytest.mark.parametrize("challenge", BOTH)
def test_without_credentials_a_token_is_asked_for(challenge: str) -> None:
    authority = Authority(OWN)
    assert authority.answer(challenge, "aks/foo") == Address.parse("https://reg.example/t")
    assert authority.answer(challenge, "aks/foo", without={"bearer"}) is None


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/t",
        "http://reg.example/t",
        "https://reg.example:444/t",
        "https://data.reg.example/t",
        "https://reg.example@evil.example/",
        "/token",
        "file:///etc/passwd",
    ],
)
def test_a_realm_elsewhere_is_refused(docker: Logs, realm: str) -> None:
    docker(AUTHS)
    with pytest.raises(PolicyError) as caught:
        Authority(OWN).answer(f'Bearer realm="{realm}"', "aks/foo")
    assert caught.value.exit_code == 4
    assert SECRET not in str(caught.value.context)


@pytest.mark.parametrize("challenge", ["", "Bearer", "Bearer realm=", "Negotiate abc", "Digest realm=x", "Basic " + "x" * 9000])
def test_a_challenge_that_cannot_be_met_is_skipped(docker: Logs, challenge: str) -> None:
    docker(AUTHS)
    assert Authority(OWN).answer(challenge, "aks/foo") is None


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_is_kept_for_its_repository_until_it_is_forgotten(name: str) -> None:
    authority = Authority(OWN)
    address = Address.parse("https://reg.example/")
    assert authority.take_token(json.dumps({name: "abc"}).encode(), "aks/foo")
    assert authority.headers(address, "aks/foo") == {"Authorization": "Bearer abc"}
    assert authority.headers(address, "aks/other") == {}
    authority.forget("aks/foo")
    assert authority.headers(address, "aks/foo") == {}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"abc",
        b"[]",
        b"{}",
        b'{"token":5}',
        b'{"token":""}',
        b'{"token":"a\\r\\nX-Evil: yes"}',
        b'{"token":"\\u00fc"}',
        b'{"token":"' + b"x" * 33_000 + b'"}',
    ],
    ids=lambda document: repr(document)[:30],
)
def test_a_token_that_cannot_be_one_is_not_kept(document: bytes) -> None:
    authority = Authority(OWN)
    assert not authority.take_token(document, "aks/foo")
    assert authority.headers(Address.parse("https://reg.example/"), "aks/foo") == {}


# -- requests over real connections


def given(mar: Registry) -> list[tuple[str, str | None]]:
    return [(asked.kind, asked.headers.get("authorization")) for asked in mar.asked]


def test_a_realm_gets_the_password_and_everybody_else_the_token(docker: Logs, client: Made, mar: Registry, tmp_path: Path) -> None:
    docker({"auths": {name: {"auth": SECRET} for name in (mar.host, mar.data_host)}})
    mar.token, mar.challenge = "abc", f'Bearer realm="http://{mar.host}/token",service="test"'
    result = pull(client(), [Wanted(Reference.parse(f"{ALB}:1.7.12"))], PullOptions(tmp_path / "out"))
    assert not result.failed
    assert given(mar) == [
        ("manifest", None),
        ("token", f"Basic {SECRET}"),
        ("manifest", "Bearer abc"),
        ("blob", "Bearer abc"),
        ("data", None),
    ]


def test_a_registry_that_wants_a_password_gets_it_once_it_has_asked(docker: Logs, client: Made, mar: Registry) -> None:
    docker({"auths": {mar.host: {"auth": SECRET}}})
    mar.on("manifest").answers(401, WWW_Authenticate="Basic realm=x")
    reference, source = source_of(client(), Reference.parse(f"{ALB}:1.7.12"))
    with pytest.raises(RemoteError) as caught:
        source.manifest(reference)
    assert caught.value.code == "unauthorized"
    assert given(mar) == [("manifest", None), ("manifest", f"Basic {SECRET}")]
    assert SECRET not in str(caught.value.context) + caught.value.message + caught.value.hint


def test_a_data_host_that_asks_for_a_password_gets_none(docker: Logs, client: Made, mar: Registry, tmp_path: Path) -> None:
    docker({"auths": {name: {"auth": SECRET} for name in (mar.host, mar.data_host)}})
    mar.on("data").answers(401, WWW_Authenticate="Basic realm=x")
    result = pull(client(), [Wanted(Reference.parse(f"{ALB}:1.7.12"))], PullOptions(tmp_path / "out"))
    (failed,) = result.failed
    assert failed.error.exit_code == 7
    assert "data" in mar.kinds()
    assert all(authorization is None for _, authorization in given(mar))
    assert not list(tmp_path.glob("out/*"))


def test_an_anonymous_registry_is_never_shown_a_password(docker: Logs, client: Made, mar: Registry, tmp_path: Path) -> None:
    docker({"auths": {name: {"auth": SECRET} for name in (mar.host, mar.data_host)}})
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login user password pass\n")
    mar.on("data").answers_with(b"wrong", times=1)
    result = pull(client(), [Wanted(Reference.parse(f"{ALB}:1.7.12"))], PullOptions(tmp_path / "out"))
    assert all(isinstance(failed.error, IntegrityError) for failed in result.failed)
    assert {authorization for _, authorization in given(mar)} == {None}
