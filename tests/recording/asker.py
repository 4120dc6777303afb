"""A command for `record` and `replay`: it sends the requests in its argument through the proxy of its environment.

`python asker.py '[["GET", "/v2/", {"Range": "…"}], …]'` prints one JSON list: status, headers and body (as Latin-1) of each answer, over one
connection. A body that ends early has the status -1. A string instead of a list is sent to the proxy as it is, on a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit


def proxy() -> tuple[str, int]:
    """The address of the proxy."""
    parts = urlsplit(os.environ["HTTPS_PROXY"])
    return parts.hostname or "", parts.port or 0


def connected(host: str) -> http.client.HTTPSConnection:
    """A connection to a host through the proxy."""
    found = http.client.HTTPSConnection(*proxy(), timeout=30, context=ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]))
    name, _, port = host.partition(":")
    found.set_tunnel(name, int(port or 443))
    return found


def ask(connection: http.client.HTTPSConnection, method: str, path: str, headers: dict[str, str], body: str | None = None) -> list[Any]:
    """Send a request, and return status, headers and body of the answer."""
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    try:
        return [answer.status, named, answer.read().decode("latin-1")]
    except http.client.IncompleteRead as error:
        connection.close()
        return [-1, named, error.partial.decode("latin-1")]


def raw(text: str) -> str:
    """Return the response of the proxy to these bytes, until it closes the connection or sends nothing more."""
    with socket.create_connection(proxy(), timeout=5) as connection:
        connection.sendall(text.encode("latin-1"))
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
                if b"established" in found:
                    break
        except TimeoutError:
            found += b"(silence)"
    return found.decode("latin-1")


def main() -> None:
    host = os.environ.get("ASKED_HOST", "mcr.microsoft.com")
    connection = connected(host)
    print(json.dumps([raw(one) if isinstance(one, str) else ask(connection, *one) for one in json.loads(sys.argv[1])]), flush=True)


if __name__ == "__main__":
    main()
