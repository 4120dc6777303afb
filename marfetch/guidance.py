"""What Microsoft says about reaching MAR, as data: hosts for firewalls, locations, statements.

Sources: "Guidance for using the official Microsoft Artifact Registry (MAR) endpoints" (ms.date 04/01/2025) and "client firewall rules"
of microsoft/containerregistry, and its README. Kept here in facts; nothing of it is asked of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One host that must be reached.

    Attributes:
        host: a name, or `*.` and a name.
        endpoint: `global` or `china`.
        purpose: what it serves.
    """

    host: str
    endpoint: str
    purpose: str
    protocol: str = "https"
    port: int = 443


RULES: Final = (
    Rule("mcr.microsoft.com", "global", "registry endpoint: what there is, and the discovery pages"),
    Rule("*.data.mcr.microsoft.com", "global", "data endpoint: the content, by redirect"),
    Rule("mcr.azure.cn", "china", "registry endpoint in China: counterpart of mcr.microsoft.com"),
    Rule("*.data.mcr.azure.cn", "china", "data endpoint in China: counterpart of *.data.mcr.microsoft.com"),
)

SERVICE_TAGS: Final = ("MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty")
"""Azure service tags; both are needed."""

REGISTRY_LOCATIONS: Final = (
    "Asia East",
    "Asia South East",
    "China East 3",
    "China North 3",
    "Europe North",
    "Europe West",
    "US Central",
    "US East",
    "US West",
    "US West 2",
    "US West-Central",
)
"""Locations of the registry endpoint, as the guidance lists them."""

DATA_LOCATIONS: Final = (
    ("worldwide", "https://docs.microsoft.com/azure/cdn/cdn-pop-locations"),
    ("china", "https://docs.azure.cn/cdn/cdn-pops"),
)
"""Where the locations of the data endpoint are listed: points of presence of Azure Front Door."""

NOT_MAR: Final = (
    ("mcr.azk8s.cn", "an old proxy in China, not MAR"),
    ("mcr.microsoft.us", "does not exist; US Government clouds use mcr.microsoft.com"),
    ("mcr.microsoft.cn", "does not exist; China uses mcr.azure.cn"),
    ("*.cdn.mscr.io", "the data endpoint until June 2020"),
)
"""Names that are taken for MAR."""

STATEMENTS: Final = (
    ("protocol", "https only; MAR implements the OCI distribution specification and is read anonymously"),
    ("regions", "allow the names above and the wildcard; rules for single regions are strongly discouraged and break when MAR moves"),
    ("addresses", "IP addresses change; where names cannot be used, use the service tags"),
    ("routing", "the registry endpoint is balanced over its locations (Azure Traffic Manager); content comes by Azure Front Door"),
    ("mirrors", "there are no official mirrors; Microsoft endorses none: they may serve altered content and open supply chains to attack"),
    ("throttling", "clients that take very much get HTTP 429 and are expected to back off"),
    ("availability", "there is no service level agreement and no public status page"),
    ("names", "MAR was called MCR (Microsoft Container Registry); only Microsoft teams publish there"),
    ("china", "mcr.azure.cn is a cache of mcr.microsoft.com with the same paths and tags"),
)

SUPPORT: Final = (
    ("ticket", "https://azure.microsoft.com/support/create-ticket/"),
    ("issue", "https://github.com/microsoft/containerregistry/issues/new"),
)
"""Where problems of MAR are reported; have the `X-Msedge-Ref` of a failed answer ready."""

SOURCE: Final = "https://github.com/microsoft/containerregistry/blob/main/docs/mcr-endpoints-guidance.md"
