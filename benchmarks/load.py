"""Load generator in a separate process: `python -m benchmarks.load PORT PATH CLIENTS REQUESTS` prints one JSON object.

Each client has one connection and sends the next request as soon as a response is complete. It counts the bytes of responses without
parsing them, because the generator shares the processors with the server that it measures.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time


class _Client:
    """One connection."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._request = request
        self.begun = 0.0
        self._head = b""
        self._left = -1

    def ask(self) -> None:
        """Send the next request."""
        self.begun, self._head, self._left = time.perf_counter(), b"", -1
        self.socket.sendall(self._request)

    def take(self, data: memoryview) -> bool:
        """Count received bytes; return whether the response is complete."""
        if not data:
            sys.exit("the server closed a connection")
        if self._left < 0:
            self._head += bytes(data)
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(f"the server answered {head[:60]!r}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self._left = int(length.partition(b":")[2]) - len(body)
        else:
            self._left -= len(data)
        return self._left == 0


def load(port: int, path: str, clients: int, requests: int) -> dict[str, float]:
    """Send this many requests in all.

    Returns:
        Requests and bytes per second; median and 99th percentile of the response time in seconds.
    """
    selector, taken = selectors.DefaultSelector(), 0
    times: list[float] = []
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    everybody = [_Client(port, request) for _ in range(clients)]
    begun = time.perf_counter()
    for client in everybody:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    asked = clients
    while len(times) < requests:
        for key, _ in selector.select():
            count = key.data.socket.recv_into(buffer)
            taken += count
            if key.data.take(memoryview(buffer)[:count]):
                times.append(time.perf_counter() - key.data.begun)
                if asked < requests:
                    key.data.ask()
                    asked += 1
    took = time.perf_counter() - begun
    times.sort()
    return {"rate": requests / took, "bytes": taken / took, "middle": times[len(times) // 2], "slow": times[len(times) * 99 // 100]}


if __name__ == "__main__":
    print(json.dumps(load(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
