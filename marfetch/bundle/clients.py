"""Commands and settings for using a loaded registry with Helm, Flux, Bicep and PowerShell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from ..artifact.kinds import BICEP_MODULE, CHART, POWERSHELL
from ..reference import Reference
from .targets import Loaded, To

_TRUSTED_BY_BICEP: Final = ("*.azurecr.io", "*.azurecr.cn", "*.azurecr.us", "mcr.microsoft.com", "mcr.azure.cn", "ghcr.io")
"""Registries from which the Bicep CLI restores modules without `BICEP_TRUSTED_REGISTRIES`, since version 0.43.1 (Azure/bicep#19395)."""
_MODULES: Final = "bicep"
"""The path on MAR of the Bicep modules that `br/public:` names."""


def client_lines(to: To, loaded: Sequence[Loaded]) -> dict[str, list[str]]:
    """Return tool → lines to paste, with one loaded artifact as an example. A folder, and kinds that were not loaded, have no lines."""
    if to.endpoint is None:
        return {}
    found: dict[str, Reference] = {}
    for one in loaded:
        if one.error is None and one.kind is not None:
            found.setdefault(one.kind, Reference.parse(one.reference))
    lines: dict[str, list[str]] = {}
    origin, is_plain = to.endpoint.registry.origin, to.endpoint.registry.scheme == "http"
    if (chart := found.get(CHART.name)) is not None:
        folder = chart.full_repository.rpartition("/")[0]
        version = f" --version {chart.tag.replace('_', '+')}" if chart.tag else ""
        lines["helm"] = [f"helm pull oci://{chart.full_repository}{version}{' --plain-http' if is_plain else ''}"]
        lines["flux"] = [f"flux create source helm mar --url=oci://{folder}"]
    if found.get(BICEP_MODULE.name) is not None:
        host = to.endpoint.registry.host
        alias = {"registry": str(host), "modulePath": to.repository(_MODULES)}
        lines["bicep"] = [f"bicepconfig.json: {json.dumps({'moduleAliases': {'br': {'public': alias}}})}"]
        if not any(fnmatchcase(host.name, glob) for glob in _TRUSTED_BY_BICEP):
            lines["bicep"].append(f"export BICEP_TRUSTED_REGISTRIES={host.name}")
    if (module := found.get(POWERSHELL.name)) is not None:
        # PSResourceGet cannot use other registries: it signs in to Azure's only, and drops paths (PowerShell/PSResourceGet#1946, #1947).
        tag = f":{module.tag}" if module.tag else f"@{module.digest}"
        lines["powershell"] = [
            f"marfetch pull {module.repository}{tag} --endpoint {origin} -d feed",
            "Register-PSResourceRepository -Name local -Uri ./feed",
            f"Install-PSResource {module.name} -Repository local",
        ]
    return lines
