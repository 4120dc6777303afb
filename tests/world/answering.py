"""A small server on loopback, for behavior that the test registry lacks. A subclass defines the responses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering(BaseHTTPRequestHandler):
    """A request handler that sends each response at once and logs nothing."""

    def answer(self) -> None:
        """Respond by calling the method with the name of the HTTP method: `get`, `head`, `post` or `put`."""
        getattr(self, self.command.lower())()

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def say(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        """Send a response.

        Args:
            headers: names with `_` instead of `-`. Headers with the value None are left out.
        """
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(handler: type[Answering]) -> Iterator[int]:
    """Start a server, and yield its port. The server stops at the end of the context."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
