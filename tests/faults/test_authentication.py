"""A: requests for credentials, and hosts that get them."""

from __future__ import annotations

import base64
import json

import pytest

from ..world.content import ALB
from ..world.proxy import Proxy
from ..world.rows import row
from ..world.world import World

DATA = b"content" * 1000
PULL = ("pull", "aks/foo:1", "--json", "--verbose")
MADE = {"foo.bin": DATA}


def logged_in(world: World, host: str) -> str:
    """Write Docker's configuration and a `.netrc` with a login for this host. Return the secret, which must never be shown."""
    packed = world.secret(base64.b64encode(f"me:{world.secret('pa55word')}".encode()).decode())
    (world.home / ".docker").mkdir()
    (world.home / ".docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": packed}}}))
    (world.home / ".netrc").write_text(f"machine {host.partition(':')[0]} login me password pa55word\n")
    return packed


@row(
    "A01",
    "the registry's own realm issues an anonymous token",
    "Requests the token once and uses it, without showing or storing it",
    code=0,
)
def test_an_anonymous_token_is_fetched_and_used(world: World) -> None:
    world.artifact("aks/foo", DATA)
    registry = world.registry
    registry.token, registry.challenge = (
        world.secret("t0ken"),
        f'Bearer realm="http://{registry.host}/token",service="own",scope="repository:aks/foo:pull"',
    )
    ended = world.run(*PULL).succeeded(made=MADE)
    assert ended.kinds == ["manifest", "token", "manifest", "blob", "data"]
    assert "authorization" not in ended.asked[1].headers
    assert "service=own&scope=repository%3Aaks%2Ffoo%3Apull" in ended.asked[1].target
    assert ended.asked[3].headers["authorization"] == f"Bearer {registry.token}"


@row(
    "A01",
    "the registry offers `Basic` before `Bearer`, in one header or in two",
    "Requests an anonymous token",
    code=0,
)
@pytest.mark.parametrize("between", [", ", "\n"], ids=["one header", "two headers"])
def test_a_token_is_found_next_to_another_scheme(world: World, between: str) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.token = world.secret("t0ken")
    world.registry.challenge = f'Negotiate, Basic realm="own"{between}Bearer realm="http://{world.registry.host}/token",service="own"'
    ended = world.run(*PULL).succeeded(made=MADE)
    assert ended.kinds == ["manifest", "token", "manifest", "blob", "data"]


@row(
    "A01",
    "the registry offers `Basic` and `Bearer`, you are logged in, and the realm issues no token or a rejected one",
    "Sends your password to the registry",
    code=0,
)
@pytest.mark.parametrize("is_given", [False, True], ids=["no token", "a token that is not taken"])
def test_the_password_is_given_where_the_token_is_of_no_use(world: World, is_given: bool) -> None:
    world.artifact("aks/foo", DATA)
    registry = world.registry
    packed = logged_in(world, registry.host)
    registry.token, registry.basic = world.secret("t0ken"), packed
    registry.challenge = f'Bearer realm="http://{registry.host}/token", Basic realm="own"'
    if is_given:
        registry.on("manifest").answers(401, WWW_Authenticate=registry.challenge, times=2)
    else:
        registry.on("token").answers(404)
    ended = world.run(*PULL).succeeded(made=MADE)
    given = [asked.headers.get("authorization") for asked in ended.asked if asked.kind == "manifest"]
    assert given == [None, *(["Bearer t0ken"] if is_given else []), f"Basic {packed}"]


@row("A01", "you are logged in to the registry", "Sends your credentials to its realm and to no other host", code=0)
def test_a_token_is_fetched_with_the_credentials_of_the_user(world: World) -> None:
    world.artifact("aks/foo", DATA)
    registry = world.registry
    packed = logged_in(world, registry.host)
    registry.token, registry.challenge = world.secret("t0ken"), f'Bearer realm="http://{registry.host}/token"'
    ended = world.run(*PULL).succeeded(made=MADE)
    given = [(asked.kind, asked.headers.get("authorization")) for asked in ended.asked]
    assert given == [
        ("manifest", None),
        ("token", f"Basic {packed}"),
        ("manifest", "Bearer t0ken"),
        ("blob", "Bearer t0ken"),
        ("data", None),
    ]


REALMS = [
    "https://evil.example/token",
    "http://evil.example/token",
    "http://169.254.169.254/metadata/identity/oauth2/token",
    "http://10.0.0.1/token",
    "http://127.0.0.1:1/token",
    "https://127.0.0.1:{port}/token",
    "http://localhost:{port}/token",
    "http://127.0.0.1:{port}@evil.example/token",
    "http://evil.example\\@127.0.0.1:{port}/token",
    "//evil.example/token",
    "file:///etc/passwd",
]


@row(
    "A02",
    "a realm on another host, port or scheme, or at a cloud metadata address",
    "Refuses it without a request or a name lookup",
    code=4,
)
def test_a_realm_elsewhere_is_not_asked(world: World) -> None:
    logged_in(world, world.registry.host)
    for number, realm in enumerate(REALMS):
        world.artifact(f"aks/foo{number}", DATA)
        challenge = f'Bearer realm="{realm.format(port=world.registry.port)}",service="own"'
        world.registry.on("manifest", f"foo{number}").answers(401, WWW_Authenticate=challenge)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(REALMS))), "--json")
    assert ended.kinds == ["manifest"] * len(REALMS)
    ended.failed(4, "host-refused", "evil.example", "token")
    for one in ended.failures:
        assert one["code"] in ("host-refused", "address-refused"), one
    assert not any("authorization" in asked.headers for asked in ended.asked)


CHALLENGES = {
    "Basic": "Basic realm=x",
    "a scheme without more": "Bearer",
    "an empty realm": "Bearer realm=",
    "no realm": 'Bearer service="x"',
    "another scheme": "Negotiate",
    "junk": '=,"\\',
    "empty": "",
    "30 KB": "Bearer realm=" + "x" * 30_000,
}


@row(
    "A03", "challenges that cannot be met: Basic without a login, junk, 30 KB, no realm, empty", "Tries once and says how to log in", code=7
)
def test_a_challenge_that_cannot_be_met_says_how_to_log_in(world: World) -> None:
    for number, challenge in enumerate(CHALLENGES.values()):
        world.artifact(f"aks/foo{number}", DATA)
        world.registry.on("manifest", f"foo{number}").answers(401, WWW_Authenticate=challenge)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(CHALLENGES))), "--json")
    ended.failed(7, "unauthorized", "helm registry login", requests=len(CHALLENGES))
    assert [one["code"] for one in ended.failures] == ["unauthorized"] * len(CHALLENGES)


@row(
    "A03",
    "the registry answers 401 even to requests with a token or a password",
    "Sends the token or the password once, then reports the failure",
    code=7,
)
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_credentials_that_are_never_accepted_are_sent_once(world: World, scheme: str) -> None:
    world.artifact("aks/foo", DATA)
    logged_in(world, world.registry.host)
    world.registry.token = world.secret("t0ken")
    world.registry.on("manifest").answers(401, WWW_Authenticate=f'{scheme} realm="http://{world.registry.host}/token"')
    world.run(*PULL).failed(7, "unauthorized", "aks/foo", "log in", requests=4)


@row("A03", "the realm fails, or returns junk or an invalid token", "Reports the failure without looping", code=7)
def test_a_realm_that_issues_no_token_is_reported(world: World) -> None:
    answers = [
        (200, b"junk"),
        (200, b'{"token": 7}'),
        (200, b'{"token": "a\\nb"}'),
        (200, b'{"token": ""}'),
        (401, b""),
        (403, b""),
        (500, b""),
    ]
    for number, (status, body) in enumerate(answers):
        world.artifact(f"aks/foo{number}", DATA)
        realm = f"http://{world.registry.host}/token?of=foo{number}"
        world.registry.on("manifest", f"foo{number}/").answers(401, WWW_Authenticate=f'Bearer realm="{realm}"')
        world.registry.on("token", f"foo{number}").answers(status, body)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(answers))), "--json")
    ended.failed(7, ended.error["code"], "aks/foo0", requests=len(answers) * 2 + 2 + 8)
    assert {one["code"] for one in ended.failures} <= {"unauthorized", "blocked", "server-error", "unexpected-answer"}, ended
    assert len(ended.failures) == len(answers)


@row("A04", "a redirect to a data host, with credentials and cookies for the registry", "Sends neither to the data host", code=0)
def test_a_data_host_sees_no_credentials_and_no_cookies(world: World) -> None:
    world.artifact("aks/foo", DATA)
    registry = world.registry
    logged_in(world, registry.host)
    registry.token, registry.challenge = world.secret("t0ken"), f'Bearer realm="http://{registry.host}/token"'
    registry.on("manifest").says(Set_Cookie=f"session={world.secret('c00kie')}; Path=/")
    registry.on("blob").says(Set_Cookie="session=c00kie; Domain=127.0.0.1; Path=/")
    ended = world.run(*PULL).succeeded(made=MADE)
    assert ended.kinds[-1] == "data"
    for name in ("authorization", "cookie", "proxy-authorization"):
        assert name not in ended.asked[-1].headers
    assert not any("cookie" in asked.headers for asked in ended.asked)


@row("A04", "401 with a challenge from the data host", "Reports a failure of the data host and sends no credentials", code=7)
def test_a_challenge_of_a_data_host_is_not_met(world: World) -> None:
    world.artifact("aks/foo", DATA)
    logged_in(world, world.registry.data_host)
    world.registry.on("data").answers(401, WWW_Authenticate=f'Basic realm="http://{world.registry.data_host}/"')
    world.run(*PULL).failed(7, "unauthorized", world.registry.data_host, "aks/foo", requests=3)
    assert not any("authorization" in asked.headers for asked in world.registry.asked)


REPEATED = {
    "500 as text": (500, "cannot read /x?{query} just now"),
    "403 as XML": (403, "<Error><Code>AuthenticationFailed</Code><Message>GET https://data.test{target}</Message></Error>"),
    "404 as JSON": (404, '{"errors":[{"code":"BLOB_UNKNOWN","message":"\\"{target}\\" is not here"}]}'),
    "418 as the code": (418, '{"errors":[{"code":"{query}"}]}'),
    "503 at the end of a long text": (503, "x" * 70 + "{query}"),
}


@row("A04", "an error of the data host repeats the signed address", "Shows the text without the query, in every message", code=7)
def test_a_signed_address_that_is_repeated_is_not_shown(world: World) -> None:
    for number, (status, form) in enumerate(REPEATED.values()):
        data = bytes([number]) + DATA
        world.artifact(f"aks/foo{number}", data)
        world.on_data(data).repeats(status, form)
    world.secrets += ["sig=", "se=2030"]
    names = [f"aks/foo{number}:1" for number in range(len(REPEATED))]
    ended = world.run("pull", *names, "--verbose")
    assert "retrying" in ended.err
    assert ended.err.count("?…") > 3
    ended = world.run("pull", *names, "--json").failed(7, "server-error", "cannot read", "?…")
    assert [one["code"] for one in ended.failures] == ["server-error", "denied", "blob-not-found", "unexpected-answer", "server-error"]


@row("A03", "an error of the registry repeats the credentials of the request", "Hides them in the message", code=7)
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_credentials_that_are_repeated_are_not_shown(world: World, scheme: str) -> None:
    world.artifact("aks/foo", DATA)
    packed = logged_in(world, world.registry.host)
    world.registry.token = world.secret("t0ken")
    world.registry.on("manifest").answers(401, WWW_Authenticate=f'{scheme} realm="http://{world.registry.host}/token"', times=1)
    world.registry.on("manifest").repeats(401, f"no: {{authorization}}, which is {'t0ken' if scheme == 'Bearer' else 'me:pa55word'}")
    ended = world.run(*PULL).failed(7, "unauthorized", f"no: {scheme} …, which is …", requests=3)
    assert ended.asked[-1].headers["authorization"] == f"{scheme} {packed if scheme == 'Basic' else 't0ken'}"


@row("A03", "a realm returns a token in an invalid form, or inside an error", "Shows nothing that the realm returned", code=7)
@pytest.mark.parametrize(
    ("status", "form"),
    [
        (200, '{"token": ["s3cretT0ken"]}'),
        (200, '{"errors":[{"code":"s3cretT0ken","message":"s3cretT0ken"}]}'),
        (500, "s3cretT0ken"),
        (403, '{"errors":[{"code":"s3cretT0ken","message":"s3cretT0ken"}]}'),
    ],
)
def test_the_response_of_a_realm_is_not_shown(world: World, status: int, form: str) -> None:
    world.artifact("aks/foo", DATA)
    world.secret("s3cretT0ken")
    world.registry.on("manifest").answers(401, WWW_Authenticate=f'Bearer realm="http://{world.registry.host}/token"')
    world.registry.on("token").answers(status, form)
    ended = world.run(*PULL)
    ended.failed(7, ended.error["code"], "aks/foo")
    ended = world.run("pull", "aks/foo:1", "--verbose")
    assert ended.returncode == 7


@row(
    "A04",
    "MAR itself asks for credentials, and you have some for it",
    "Sends none and does not contact the realm, because MAR is anonymous",
    code=7,
)
def test_mar_gets_no_credentials_whatever_it_says(official: tuple[World, Proxy]) -> None:
    world, _ = official
    logged_in(world, "mcr.microsoft.com")
    world.registry.token, world.registry.challenge = "x", 'Bearer realm="https://mcr.microsoft.com/token"'
    ended = world.run("pull", f"{ALB}:1.7.12", "--json", "--verbose").failed(7, "unauthorized", "mcr.microsoft.com", requests=1)
    assert "authorization" not in ended.asked[0].headers
