"""Credentials for registries of the user's own. MAR is anonymous: to its endpoints, and to data hosts, none are ever sent.

oras-py's backends, which are not used, ask any realm that a server names, send it the user's password, and keep one host's credentials
for the next (auth/token.py:118-170, auth/base.py:88-142). Here a realm must be the registry itself, and there is one authority for each
endpoint.
"""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, NamedTuple

from ..document import parse_json
from ..endpoint import Address, Endpoint
from ..errors import Error, PolicyError
from . import limits
from .backoff import RequestFailed
from .credentials import basic_credentials, identity_token
from .transport import GET, Sent

# -- the challenges of an answer: which ways of authentication a registry offers


_SCHEME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Many a registry writes an address without quotes, which is no token.
_PARAMETER: Final = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,="][^\s,"]*))""")
_TOKEN68: Final = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")


class Challenge(NamedTuple):
    """One way that is offered.

    Attributes:
        scheme: in lower case.
        parameters: names in lower case; of two with one name the first.
    """

    scheme: str
    parameters: dict[str, str]


def challenges(text: str) -> list[Challenge]:
    """All of them, in their order; what is none is passed over."""
    found: list[Challenge] = []
    at = 0
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        scheme = _SCHEME.match(text, at)
        if text[at] in " \t,":
            at += 1
        elif parameter is not None:
            if found:
                quoted, plain = parameter[2], parameter[3]
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1].parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        elif scheme is not None:
            found.append(Challenge(scheme[0].lower(), {}))
            single = _TOKEN68.match(text, scheme.end())
            at = single.end() if single is not None else scheme.end()
        else:
            comma = text.find(",", at)
            at = comma if comma >= 0 else len(text)
    return found


_MAX_CHALLENGE: Final = 8192
_MAX_TOKEN: Final = 32 * 1024


class Authority:
    """What is known about the right to read from one endpoint.

    Args:
        endpoint: whose registry it is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tokens: dict[str, str] = {}
        self._basic: str | None = None
        self._guard = threading.Lock()

    def headers(self, address: Address, repository: str) -> dict[str, str]:
        """The headers that carry the credentials for a request; none for official endpoints and data hosts."""
        if self._endpoint.official or not self._endpoint.is_registry(address):
            return {}
        with self._guard:
            token = self._tokens.get(repository)
        if token:
            return {"Authorization": f"Bearer {token}"}
        return {"Authorization": f"Basic {self._basic}"} if self._basic else {}

    def let_in(self, challenge: str, given: set[str], ask: Callable[[Address], None], *, tried: bool) -> bool:
        """Get what one of these challenges asks for, each scheme once; False where there is nothing to give.

        Args:
            given: the schemes that were answered already; grows.
            ask: asks a realm for a token, which is kept.
            tried: as for `answer`.

        Raises:
            PolicyError: as `answer`.
            Trouble: the realm has given none, and there is no other way.
        """
        failure: RequestFailed | None = None
        while (way := self.answer(challenge, tried=tried, without=given)) is not None:
            if way == "basic":
                given.add("basic")
                return True
            given.add("bearer")
            try:
                ask(way)
            except RequestFailed as trouble:
                if trouble.throttled or trouble.tries >= limits.TRIES:
                    raise
                failure = trouble
            else:
                return True
        if failure is not None:
            raise failure
        return False

    def answer(self, challenge: str, *, tried: bool = True, without: Collection[str] = ()) -> Address | Literal["basic"] | None:
        """Take note of challenges: several schemes may be offered, in one header or in several (RFC 9110, 11.6.1).

        A token comes first: it is to be had with credentials and without, and then the password goes to the realm alone.

        Args:
            tried: whether the request carried the credentials that there are; another thread may have been first to find them.
            without: schemes that are no choice any more.

        Returns:
            Where a token is to be had; `basic` where the user's credentials go with every request from now on; None where there is
            nothing that could be given.

        Raises:
            PolicyError: `host-refused`: the realm is on another host.
        """
        if self._endpoint.official or len(challenge) > _MAX_CHALLENGE:
            return None
        offered = [one for one in challenges(challenge) if one.scheme not in without]
        for one in offered:
            if one.scheme == "bearer" and one.parameters.get("realm"):
                return self._realm(one.parameters)
        if any(one.scheme == "basic" for one in offered):
            credentials = basic_credentials(self._endpoint.registry.host)
            with self._guard:
                if credentials is None or (self._basic is not None and tried):
                    return None
                self._basic = credentials
            return "basic"
        return None

    def _realm(self, values: Mapping[str, str]) -> Address:
        realm = Address.parse(values["realm"])
        if not self._endpoint.is_registry(realm):
            raise PolicyError(
                f"`{self._endpoint.registry.host}` sends to `{realm.host}` for a token, which is refused",
                code="host-refused",
                hint="credentials are not given to other hosts",
                url=realm.origin,
                rule="the realm is the registry",
            )
        query = [(name, values[name]) for name in ("service", "scope") if values.get(name)]
        path, question, own = realm.target.partition("?")
        joined = "&".join(part for part in (own if question else "", urllib.parse.urlencode(query)) if part)
        return Address(realm.scheme, realm.host, f"{path}?{joined}" if joined else path)

    def request(self, realm: Address) -> tuple[Address, dict[str, str], Sent]:
        """How a realm is asked for a token: with the user's password where there is one, by an identity token (distribution, "OAuth2 token
        authentication"), or for an anonymous one.

        Returns:
            Where, with which headers, and what is sent.
        """
        identity = identity_token(self._endpoint.registry.host)
        if identity is None:
            credentials = basic_credentials(self._endpoint.registry.host)
            return realm, {"Authorization": f"Basic {credentials}"} if credentials else {}, GET
        path, _, query = realm.target.partition("?")
        form = [("grant_type", "refresh_token"), *urllib.parse.parse_qsl(query), ("client_id", "marfetch"), ("refresh_token", identity)]
        body = urllib.parse.urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return Address(realm.scheme, realm.host, path), headers, Sent("POST", (body,))

    def take_token(self, document: bytes, repository: str) -> bool:
        """Keep the token that a realm has given; False where it has given none."""
        try:
            values = parse_json(document, "the token")
        except Error:
            values = None
        token: Any = (values.get("token") or values.get("access_token")) if isinstance(values, dict) else None
        if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN or not token.isascii() or not token.isprintable():
            return False
        with self._guard:
            self._tokens[repository] = token
        return True

    def forget(self, repository: str) -> None:
        """A token that was kept is no longer taken."""
        with self._guard:
            self._tokens.pop(repository, None)
