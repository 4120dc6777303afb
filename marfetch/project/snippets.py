"""Return lines to paste into another tool's file, which name a resolved artifact (`marfetch resolve --as FORM`).

The snippet is pinned by digest where the form supports that. Terraform's `helm_release` supports only a version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ..artifact.kinds import BICEP_MODULE, CHART, Kind, kind_of, matches
from ..artifact.payload import Choice
from ..client.resolve import Resolved, artifact
from ..constraint import chart_version
from ..errors import InputError
from ..oci import Manifest

_LONGEST_RELEASE: Final = 53
"""Maximum length of the name of a Helm release."""


def _helm(resolved: Resolved) -> str:
    option = " --plain-http" if _is_plain(resolved) else ""
    return f"helm upgrade --install {_release(resolved)} oci://{resolved.reference}{option}\n"


def _flux(resolved: Resolved) -> str:
    reference, name = resolved.reference, _release(resolved)
    layer = next((one for one in _manifest(resolved, CHART).layers if matches(one.media_type, CHART.payload)), None)
    selector = "" if layer is None else f"\n  layerSelector:\n    mediaType: {layer.media_type}\n    operation: copy"
    tag = f'\n    tag: "{reference.tag}"' if reference.tag else ""
    insecure = "\n  insecure: true" if _is_plain(resolved) else ""
    return f"""\
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata:
  name: {name}
spec:
  interval: 1h
  url: oci://{reference.full_repository}{selector}{insecure}
  ref:{tag}
    digest: {reference.digest}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: {name}
spec:
  interval: 1h
  chartRef:
    kind: OCIRepository
    name: {name}
"""


def _terraform(resolved: Resolved) -> str:
    reference = resolved.reference
    if resolved.version is None:
        raise InputError(
            f"`{reference}` has no version, and `helm_release` of Terraform supports no digest",
            code="usage",
            hint="name a version instead, or use another form",
            reference=str(reference),
        )
    repository, _, chart = reference.full_repository.rpartition("/")
    return f"""\
resource "helm_release" "{_identifier(chart)}" {{
  name       = "{_release(resolved)}"
  repository = "oci://{repository}"
  chart      = "{chart}"
  version    = "{chart_version(resolved.version)}"
}}
"""


def _bicep(resolved: Resolved) -> str:
    reference = resolved.reference
    name = re.sub("_+(.)", lambda match: match[1].upper(), _identifier(reference.name).lstrip("_"))
    name = f"_{name}" if name[:1].isdigit() else name
    version = f"// version {reference.tag}\n" if reference.tag else ""
    return f"""\
{version}module {name} 'br:{reference.full_repository}@{reference.digest}' = {{
  name: '{name}'
  params: {{}}
}}
"""


class SnippetForm(NamedTuple):
    """A kind of snippet, for one tool.

    Attributes:
        kind: the kind of artifact that the form can express.
        write: returns the snippet.
    """

    kind: Kind
    write: Callable[[Resolved], str]


SNIPPETS: Final[Mapping[str, SnippetForm]] = {
    "helm": SnippetForm(CHART, _helm),
    "flux": SnippetForm(CHART, _flux),
    "terraform": SnippetForm(CHART, _terraform),
    "bicep": SnippetForm(BICEP_MODULE, _bicep),
}
"""The values of `--as`."""


def snippet(resolved: Resolved, name: str) -> str:
    """Return a snippet to paste into a file of another tool.

    Args:
        name: a key of `SNIPPETS`.

    Raises:
        InputError: `usage`: the form does not fit the artifact; `platform-needed`.
        Error: the manifest in an index cannot be downloaded.
    """
    form = SNIPPETS[name]
    kind = kind_of(_manifest(resolved, form.kind))
    if kind is not form.kind:
        fitting = [other for other, one in SNIPPETS.items() if one.kind is kind]
        raise InputError(
            f"`{resolved.reference.shown}` is a {kind.title}, but `--as {name}` needs a {form.kind.title}",
            code="usage",
            hint=f"use {' or '.join(f'`--as {other}`' for other in fitting)}" if fitting else "omit `--as`",
            reference=str(resolved.reference),
        )
    return form.write(resolved)


def _manifest(resolved: Resolved, kind: Kind) -> Manifest:
    return artifact(resolved, Choice(kinds=(kind,)), None)


def _is_plain(resolved: Resolved) -> bool:
    return resolved.repository.session.endpoint(resolved.repository.reference).registry.scheme == "http"


def _release(resolved: Resolved) -> str:
    """Return the name of a release: Helm and Kubernetes allow no `_`, and Helm at most 53 characters."""
    return resolved.reference.name.replace("_", "-")[:_LONGEST_RELEASE].rstrip("-.")


def _identifier(text: str) -> str:
    plain = re.sub("[^a-z0-9]+", "_", text)
    return f"_{plain}" if plain[:1].isdigit() else plain
