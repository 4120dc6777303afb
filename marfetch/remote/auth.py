"""Credentials for registries of the user's own. MAR is anonymous: to its endpoints, and to data hosts, none are ever sent.

oras-py's backends ask any realm that a server names, send it the user's password, and keep one host's credentials for the next
(auth/token.py:118-170, auth/base.py:88-142). Here a realm must be the registry itself, and there is one authority for each endpoint.
"""

from __future__ import annotations

import threading
import urllib.parse
import urllib.request
from typing import Any, Final, Literal

import oras.auth.base

from ..document import parse_json
from ..endpoint import Address, Endpoint
from ..errors import Error, PolicyError
from .credentials import basic_credentials

_MAX_CHALLENGE: Final = 8192
_MAX_TOKEN: Final = 32 * 1024


class Authority(oras.auth.base.AuthBackend):
    """What is known about the right to read from one endpoint.

    Args:
        endpoint: whose registry it is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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

    def answer(self, challenge: str, *, tried: bool = True) -> Address | Literal["basic"] | None:
        """Take note of a challenge (RFC 9110, 11.6.1).

        Args:
            tried: whether the request carried what there is to give; another thread may have been first to find it.

        Returns:
            Where a token is to be had; `basic` where the user's credentials go with every request from now on; None where there is
            nothing that could be given.

        Raises:
            PolicyError: `host-refused`: the realm is on another host.
        """
        scheme, _, rest = challenge[:_MAX_CHALLENGE].strip().partition(" ")
        if self._endpoint.official or len(challenge) > _MAX_CHALLENGE:
            return None
        if scheme.lower() == "basic":
            credentials = basic_credentials(self._endpoint.registry.host)
            with self._guard:
                if credentials is None or (self._basic is not None and tried):
                    return None
                self._basic = credentials
            return "basic"
        values = _parameters(rest) if scheme.lower() == "bearer" else {}
        if not values.get("realm"):
            return None
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

    def basic(self) -> dict[str, str]:
        """The header for a realm: the user's credentials where there are some, otherwise an anonymous token is asked for."""
        credentials = basic_credentials(self._endpoint.registry.host)
        return {"Authorization": f"Basic {credentials}"} if credentials else {}

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


def _parameters(text: str) -> dict[str, str]:
    """The parameters of a challenge, names in lower case; of two with one name the first."""
    values: dict[str, str] = {}
    for item in urllib.request.parse_http_list(text):
        name, _, value = item.partition("=")
        values.setdefault(name.strip().lower(), value.strip().strip('"'))
    return values
