"""Run the test registry in a separate process: `python -m benchmarks.served DIRECTORY PORT DATA_PORT DATA_ORIGIN`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

from marfetch.layout.layout import Layout
from marfetch.reference import Host
from marfetch.serve.app import ServedRegistry


async def main(directory: Path, port: int, data_port: int, data_origin: str) -> None:
    """Serve until the process is killed."""
    registry = ServedRegistry(Layout(directory / "layout"), Host("bench.test"), data_origin=data_origin)
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                app,
                host="127.0.0.1",
                port=number,
                log_config=None,
                access_log=False,
                lifespan="off",
                ssl_certfile=str(directory / "cert.pem"),
                ssl_keyfile=str(directory / "key.pem"),
                backlog=512,
            )
        )
        for app, number in ((registry.app(), port), (registry.data_app(), data_port))
    ]
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
    print("up", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
