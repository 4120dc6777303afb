"""Azure Developer CLI: the Helm releases of the AKS services in `azure.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .helm import releases
from .places import Form, Found, Node, Sources


def _services(document: Node, sources: Sources) -> Iterator[Found]:
    for service in document.get("services").children():
        helm = service.get("k8s", "helm")
        yield from releases("azd", helm, sources, Sources([helm]).repository)


AZD: Final = Form(
    lambda name, document: name in ("azure.yaml", "azure.yml") and isinstance(document.get("services").value, dict), _services
)
