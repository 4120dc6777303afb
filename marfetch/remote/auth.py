"""Authentication for the user's own registries. MAR is anonymous: its endpoints and data hosts never get credentials.

marfetch does not use the auth backends of oras-py (auth/token.py:118-170, auth/base.py:88-142). They send the user's password to any realm
that a server names, and they reuse the credentials of one host for other hosts. Here the realm must be on the registry itself, and each
endpoint has its own `Authority`.
"""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ..document import parse_json
from ..endpoint import Address, Endpoint
from ..errors import Error, PolicyError
from . import limits
from .backoff import RequestFailed
from .transport import GET, Sent

if TYPE_CHECKING:
    from .credentials import Credentials, CredentialUse

# -- parsing `WWW-Authenticate`


_SCHEME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Many registries send the realm without quotes, although RFC 9110 requires them.
_PARAMETER: Final = r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,="][^\s,"]*))"""
_TOKEN68: Final = r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)"


class Challenge(NamedTuple):
    """An authentication challenge.

    Attributes:
        scheme: the authentication scheme, in lower case.
        parameters: lower-case name → value. If a name is repeated, the first value counts.
    """

    scheme: str
    parameters: dict[str, str]


def challenges(text: str) -> list[Challenge]:
    """Parse the challenges of a `WWW-Authenticate` header, in order. Skip invalid text."""
    found: list[Challenge] = []
    parameters, schemes, tokens = map(re.compile, (_PARAMETER, _SCHEME, _TOKEN68))
    at = 0
    while at < len(text):
        parameter = parameters.match(text, at)
        scheme = schemes.match(text, at)
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
            single = tokens.match(text, scheme.end())
            at = single.end() if single is not None else scheme.end()
        else:
            comma = text.find(",", at)
            at = comma if comma >= 0 else len(text)
    return found


_MAX_CHALLENGE: Final = 8192
_MAX_TOKEN: Final = 32 * 1024


class Authority:
    """The tokens and credentials for one endpoint.

    Attributes:
        is_for_uploads: whether to request tokens for uploads at once. A registry asks for that only at the first upload, so otherwise each
            repository would need two tokens.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tokens: dict[str, str] = {}
        self._is_basic = False
        self.is_for_uploads = False
        self._used: set[str] = set()
        """The repositories whose credentials were already sent to the registry or its realm."""
        self._guard = threading.Lock()

    def credentials(self, repository: str) -> Credentials:
        """Return the credentials for a repository. They are empty for official endpoints."""
        from .credentials import Credentials, find_credentials  # late: only for a registry that is not MAR

        return Credentials() if self._endpoint.official else find_credentials(self._endpoint.registry.host, repository)

    def explain(self, repository: str) -> CredentialUse | None:
        """Return the credentials for a request that the registry refused, to explain the refusal; None for official endpoints."""
        if self._endpoint.official:
            return None
        from .credentials import CredentialUse  # late: only for a registry that is not MAR

        with self._guard:
            is_used = repository in self._used
        return CredentialUse(self._endpoint.registry.name, self.credentials(repository), is_used)

    def headers(self, address: Address, repository: str) -> dict[str, str]:
        """Return the `Authorization` header for a request. The result is empty for official endpoints and data hosts."""
        if self._endpoint.official or not self._endpoint.is_registry(address):
            return {}
        with self._guard:
            token = self._tokens.get(repository)
        if token:
            return {"Authorization": f"Bearer {token}"}
        basic = self._basic(repository) if self._is_basic else None
        return {"Authorization": f"Basic {basic}"} if basic else {}

    def _basic(self, repository: str) -> str | None:
        basic = self.credentials(repository).basic
        if basic is not None:
            with self._guard:
                self._used.add(repository)
        return basic

    def authenticate(self, challenge: str, repository: str, given: set[str], ask: Callable[[Address], None], *, tried: bool) -> bool:
        """Answer a `WWW-Authenticate` header, so that the request can be sent again. Try each scheme once.

        Args:
            challenge: the value of the header.
            given: the schemes that were already tried. This method adds the schemes that it tries.
            ask: requests a token from a realm and stores it.
            tried: as for `answer`.

        Returns:
            False if there are no credentials for any scheme that is left.

        Raises:
            PolicyError: as for `answer`.
            RequestFailed: the realm gave no token, and no other scheme is left.
        """
        failure: RequestFailed | None = None
        while (answer := self.answer(challenge, repository, tried=tried, without=given)) is not None:
            if answer == "basic":
                given.add("basic")
                return True
            given.add("bearer")
            try:
                ask(answer)
            except RequestFailed as trouble:
                if trouble.throttled or trouble.tries >= limits.TRIES:
                    raise
                failure = trouble
                if self.is_for_uploads:  # the token server may refuse the whole request; then ask for what the registry says
                    self.is_for_uploads = False
                    given.discard("bearer")
            else:
                return True
        if failure is not None:
            raise failure
        return False

    def answer(
        self, challenge: str, repository: str, *, tried: bool = True, without: Collection[str] = ()
    ) -> Address | Literal["basic"] | None:
        """Choose one of the schemes that a registry offers (RFC 9110, 11.6.1).

        A token is preferred to basic authentication: an anonymous token needs no password, and otherwise only the realm gets the password.

        Args:
            challenge: the value of the `WWW-Authenticate` header.
            tried: whether the refused request carried the user's credentials. If not, another thread may have added them since.
            without: schemes to skip.

        Returns:
            The realm to request a token from. `basic` if later requests must carry the user's credentials. None if no
            scheme can be used.

        Raises:
            PolicyError: `host-refused`: the realm is on another host.
        """
        if self._endpoint.official or len(challenge) > _MAX_CHALLENGE:
            return None
        offered = [one for one in challenges(challenge) if one.scheme not in without]
        for one in offered:
            if one.scheme == "bearer" and one.parameters.get("realm"):
                return self._realm(one.parameters, repository)
        if any(one.scheme == "basic" for one in offered):
            with self._guard:
                is_refused = self._is_basic and tried and repository in self._used
            if is_refused or self._basic(repository) is None:
                return None
            self._is_basic = True
            return "basic"
        return None

    def _realm(self, values: Mapping[str, str], repository: str) -> Address:
        realm = Address.parse(values["realm"])
        if not self._endpoint.is_registry(realm):
            raise PolicyError(
                f"`{self._endpoint.registry.host}` names another host, `{realm.host}`, as its token server, which is refused",
                code="host-refused",
                hint="marfetch sends credentials only to the registry itself, so use a registry that issues its own tokens",
                url=realm.origin,
                rule="the realm is the registry",
            )
        query = [(name, values[name]) for name in ("service", "scope") if values.get(name)]
        if self.is_for_uploads and ("scope", read := f"repository:{repository}:pull") in query:
            query[-1] = ("scope", f"{read},push")
        path, question, own = realm.target.partition("?")
        joined = "&".join(part for part in (own if question else "", urllib.parse.urlencode(query)) if part)
        return Address(realm.scheme, realm.host, f"{path}?{joined}" if joined else path)

    def request(self, realm: Address, repository: str) -> tuple[Address, dict[str, str], Sent]:
        """Build the request for a token. It carries an identity token, a password, or no credentials.

        With an identity token, the request has the form in distribution, "OAuth2 token authentication".

        Returns:
            The address, the headers, and the method and body.
        """
        identity = self.credentials(repository).identity
        if identity is None:
            basic = self._basic(repository)
            return realm, {"Authorization": f"Basic {basic}"} if basic else {}, GET
        with self._guard:
            self._used.add(repository)
        path, _, query = realm.target.partition("?")
        form = [("grant_type", "refresh_token"), *urllib.parse.parse_qsl(query), ("client_id", "marfetch"), ("refresh_token", identity)]
        body = urllib.parse.urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return Address(realm.scheme, realm.host, path), headers, Sent("POST", (body,))

    def take_token(self, document: bytes, repository: str) -> bool:
        """Store the token from a realm's response. Return False if the response has no valid token."""
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
        """Forget the token for a repository, because the registry no longer accepts it."""
        with self._guard:
            self._tokens.pop(repository, None)
