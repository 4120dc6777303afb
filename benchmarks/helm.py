"""`python -m benchmarks.helm`: compare `mar://` with `oci://`, with an empty and a filled cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from marfetch.helm.setup import set_up
from tests.world import tools

from .measure import Contender, race, table
from .stage import MANY, ROOT, stage

ROUND_TRIP = 40  # milliseconds
CHART = "bench/charts/chart0"


def main() -> None:
    """Measure and print two tables."""
    runs = int(os.environ.get("RUNS", "5"))
    helm = tools.find("helm4")
    if helm is None:
        sys.exit(tools.missing("helm4"))
    with stage(round_trip=ROUND_TRIP) as where:
        plugins = where.directory / "data" / "plugins"
        set_up(plugins)
        homes = {"HELM_DATA_HOME": str(where.directory / "data"), "HELM_CONFIG_HOME": str(where.directory / "config")}
        environment = {
            **where.environment(),
            **homes,
            "PYTHONPATH": str(ROOT),
            "MARFETCH_ENDPOINT": f"https://{where.host}",
        }
        warm = where.directory / "warm"

        def template(name: str, url: str, *, cold: bool) -> Contender:
            def prepare(directory: Path) -> list[str]:
                cache = directory / "cache" if cold else warm
                script = f'MARFETCH_CACHE_DIR="{cache}/m" HELM_CACHE_HOME="{cache}/h" exec "$0" template r {url} --ca-file "$SSL_CERT_FILE"'
                return ["sh", "-c", script, str(helm)]

            return Contender(name, prepare, lambda _: None, environment)

        oci = f"oci://{where.host}/{CHART} --version 1.2.3"
        mar = f"mar://{where.host}/{CHART}:1.2.3/chart0-1.2.3.tgz"
        ranged = f"chart0 --repo mar://{where.host}/{CHART} --version ^1"
        contenders = [
            template("oci://, exact", oci, cold=True),
            template("oci:// again", oci, cold=False),
            template("mar://, exact", mar, cold=True),
            template("mar:// again", mar, cold=False),
            template("mar:// repository, range", ranged, cold=True),
            template("mar:// repository again", ranged, cold=False),
        ]
        race(contenders, where.directory, runs=runs)
        print("\n".join(table(contenders, "oci://, exact")) + "\n", flush=True)

        def index(name: str, *, cold: bool) -> Contender:
            def prepare(directory: Path) -> list[str]:
                cache = directory / "cache" if cold else warm
                script = (
                    f'MARFETCH_CACHE_DIR="{cache}/i" exec "$0" -m marfetch getter "" "" "" mar://{where.host}/bench/charts/many/index.yaml'
                )
                return ["sh", "-c", script, sys.executable]

            return Contender(name, prepare, lambda _: None, environment)

        indexes = [index(f"index of {MANY} tags", cold=True), index(f"index of {MANY} tags again", cold=False)]
        race(indexes, where.directory, runs=runs)
        print("\n".join(table(indexes, f"index of {MANY} tags")) + "\n", flush=True)


if __name__ == "__main__":
    main()
