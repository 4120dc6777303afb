"""`marfetch endpoints`."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from .help import add
from .options import Settings, shared


def register(app: typer.Typer) -> None:
    add(app, endpoints)


class Format(StrEnum):
    TEXT = "text"
    AZURE_FIREWALL = "azure-firewall"
    KUBERNETES = "kubernetes"


_Format = Annotated[
    Format, typer.Option("--format", metavar="FORMAT", help="text, azure-firewall (an ARM template) or kubernetes (a CiliumNetworkPolicy).")
]


@shared(network=False)
def endpoints(settings: Settings, form: _Format = Format.TEXT) -> int:
    """List the hosts that a firewall must allow.

    Prints one `host` line per host: name, port, protocol, endpoint and purpose. Further lines quote Microsoft's guidance on reaching MAR.
    With `--format`, prints an ARM template with rules for Azure Firewall or a CiliumNetworkPolicy, ready to apply. Makes no requests.
    """
    from .. import firewall
    from ..firewall import DATA_LOCATIONS, NOT_MAR, REGISTRY_LOCATIONS, RULES, SERVICE_TAGS, SOURCE, STATEMENTS, SUPPORT

    report = settings.report
    if form is not Format.TEXT:
        document = firewall.azure_firewall() if form is Format.AZURE_FIREWALL else firewall.kubernetes()
        report.text(document)
        report.data({"format": form.value, "document": document})
        return 0
    hosts = [(rule.host, str(rule.port), rule.protocol, rule.endpoint, rule.purpose) for rule in RULES]
    report.table(("host", "port", "protocol", "endpoint", "purpose"), hosts, wraps=True, pipe=[("host", *row) for row in hosts])
    report.gap()
    report.facts(
        [
            *(("service tag", tag) for tag in SERVICE_TAGS),
            *(("registry location", place) for place in REGISTRY_LOCATIONS),
            *(("data locations", *row) for row in DATA_LOCATIONS),
            *(("not MAR", *row) for row in NOT_MAR),
            *(("rule", *row) for row in STATEMENTS),
            *(("support", *row) for row in SUPPORT),
            ("source", SOURCE),
        ]
    )
    data: dict[str, Any] = {
        "hosts": [dataclasses.asdict(rule) for rule in RULES],
        "serviceTags": list(SERVICE_TAGS),
        "registryLocations": list(REGISTRY_LOCATIONS),
        "dataLocations": dict(DATA_LOCATIONS),
        "notMar": [{"host": host, "reason": reason} for host, reason in NOT_MAR],
        "statements": dict(STATEMENTS),
        "support": dict(SUPPORT),
        "source": SOURCE,
    }
    report.data(data)
    return 0
