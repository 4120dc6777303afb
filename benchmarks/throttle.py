"""`python -m benchmarks.throttle`: real clients at a registry that says "not now"; what it wrote down of each.

Every client wants the same charts, so many at a time; helm, oras, crane and regctl fetch one a call. After some answers the registry
waits until that many requests are under way, and tells them all at once to stay away for some seconds: whatever comes before that time
is over was sent by somebody who had been told, or by a process that could have known.
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
SOON = 0.5  # seconds after a pause, in which a herd would come


def scene(directory: Path, layout: Layout, charts: list[str], seconds: float) -> list[str]:
    """One pause, for each client."""
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
    """Measure, print, and write the page."""
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
