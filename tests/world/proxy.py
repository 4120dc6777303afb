"""A proxy on loopback."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

from .listener import Listener


class Proxy(Listener):
    """An http proxy that supports only CONNECT, and connects host names to ports that the test chooses.

    Attributes:
        credentials: the required `user:password`; None: no credentials are required.
        answer: a response to send instead of all others.
        is_silent: whether the proxy never responds.
        cuts: bytes from the server after which each tunnel is cut, in the order of the tunnels; None or missing: never.
    """

    def __init__(self, leads: dict[str, int], *, credentials: str | None = None, answer: bytes | None = None) -> None:
        super().__init__()
        self.leads = leads
        self.asked: list[str] = []
        self.credentials = credentials
        self.answer = answer
        self.is_silent = False
        self.cuts: list[int | None] = []

    def serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        first, *lines = head.decode().split("\r\n")
        self.asked.append(first)
        if self.is_silent:
            self._ended.wait(60)
            return
        if self.answer is not None:
            client.sendall(self.answer)
            return
        wanted = f"Proxy-Authorization: Basic {base64.b64encode((self.credentials or '').encode()).decode()}"
        if self.credentials and wanted.lower() not in [line.lower() for line in lines]:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        name = first.split()[1].partition(":")[0]
        if name not in self.leads:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        most = self.cuts.pop(0) if self.cuts else None
        with socket.create_connection(("127.0.0.1", self.leads[name])) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            one = threading.Thread(target=self._pipe, args=(client, server), daemon=True)
            one.start()
            self._pipe(server, client, most)
            if most is not None:
                client.shutdown(socket.SHUT_RDWR)
            one.join(20)

    def _pipe(self, one: socket.socket, other: socket.socket, most: int | None = None) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536 if most is None else min(most, 65536)):
                other.sendall(data)
                if most is not None:
                    most -= len(data)
                    if not most:
                        return
            other.shutdown(socket.SHUT_WR)
