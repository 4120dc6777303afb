"""The challenges of an answer: which ways of authentication a registry offers.

    WWW-Authenticate: Negotiate, Basic realm="own", Bearer realm="https://own/token", service="own"

A comma parts challenges as well as the parameters of one (RFC 9110, 11.6.1), and several headers are joined by one, too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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
