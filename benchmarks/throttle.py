"""`python -m benchmarks.throttle`: how clients behave at a registry that throttles them.

Every client downloads the same charts in parallel; helm, oras, crane and regctl fetch one per call. After some responses, the registry
waits until all parallel requests are open, and answers all of them with 429 and a `Retry-After`. A request before that time has passed
comes from a client that ignored the throttle, or from a process that could have known about it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from marfetch.layout.layout import Layout
from tests.world.throttling import Throttling

from . import page
from .peers import HOST, fetch, fill, names

CHARTS = 24
AT_A_TIME = 8
BEFORE = 12  # answers
PATIENCE = 150.0  # seconds
SIZE = 4 << 10
PAUSES = {"a pause of 5 s (`Retry-After: 5`)": 5.0, "a pause of an hour (`Retry-After: 3600`)": 3600.0}
SOON = 0.5  # seconds after a pause, in which a thundering herd would appear


def scene(directory: Path, layout: Layout, charts: list[str], seconds: float) -> list[str]:
    """Measure all clients with one length of the pause."""
    rows = [
        "| client | requests during the pause | requests in total | charts downloaded | most at once in the first half second after the pause | most at once later |",
        "|---|---|---|---|---|---|",
    ]
    for client in names():
        with Throttling(layout, names=HOST, after=BEFORE, gather=AT_A_TIME, seconds=seconds) as registry:
            run = directory / "run"
            done = fetch(client, registry.host, charts, run, at_a_time=AT_A_TIME, patience=PATIENCE)
            shutil.rmtree(run)
            after = registry.after_pause()
            soon = [one.together for one in after if registry.ends and one.at < registry.ends[0] + SOON]
            cells = [
                len(registry.while_told),
                len(registry.came),
                f"{done.arrived} of {CHARTS}{' (killed)' if done.killed else ''}",
                max(soon, default="–"),
                max((one.together for one in after if one.at >= registry.ends[0] + SOON), default="–") if after else "–",
            ]
            rows.append(f"| {client} | {' | '.join(map(str, cells))} |")
            print(rows[-1], "--", done.said[:160], flush=True)
    return rows


def main() -> None:
    """Measure, print the results and write the page."""
    charts = [f"chart{number}" for number in range(CHARTS)]
    lines = [page.machine(), f"{CHARTS} charts, {AT_A_TIME} at a time. The pause begins after {BEFORE} responses."]
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch:
        directory = Path(scratch)
        layout = Layout(directory / "layout")
        fill(layout, dict.fromkeys(charts, SIZE))
        for title, seconds in PAUSES.items():
            lines += ["", f"### {title[0].upper()}{title[1:]}", "", *scene(directory, layout, charts, seconds)]
    page.put("throttle", lines)


if __name__ == "__main__":
    main()
