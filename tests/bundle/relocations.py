"""Charts that name images as real charts do, for `bundle overlay`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

HOST: Final = "mcr.microsoft.com"
_POD: Final = "kind: Pod\nspec:\n  containers:\n"
_META: Final = "apiVersion: v2\nname: foo\nversion: 1.0.0\nappVersion: 1.5.0\n"
_DIGEST: Final = "sha256:" + "a" * 64
_CHILD: Final = "sha256:" + "b" * 64


@dataclass(frozen=True)
class Case:
    """A chart.

    Attributes:
        files: without `Chart.yaml` unless it has dependencies.
        moved: image → its reference afterwards, with `NEW` for the registry.
        left: the images that the values cannot move.
        asked: image → target, if other targets than those in `moved` are requested.
    """

    name: str
    given: dict[str, str]
    moved: dict[str, str]
    left: tuple[str, ...] = ()
    asked: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        return {"Chart.yaml": _META, **self.given}

    def targets(self, registry: str) -> dict[str, str]:
        return {image: target.replace("NEW", registry) for image, target in {**self.moved, **self.asked}.items()}


def _containers(*images: str) -> str:
    return _POD + "".join(f"  - image: {image}\n" for image in images)


CASES: Final = (
    Case(
        "registry, repository and tag",
        {
            "values.yaml": f"image: {{registry: {HOST}, repository: aks/web, tag: ''}}\n",
            "templates/a.yaml": _containers(
                '"{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"'
            ),
        },
        {f"{HOST}/aks/web:1.5.0": "NEW/aks/web:1.5.0"},
    ),
    Case(
        "whole image, and a digest of an index of which one platform is carried",
        {
            "values.yaml": f"image: {HOST}/aks/web:1@{_DIGEST}\nother: {{image: {HOST}/aks/web, digest: '{_DIGEST}'}}\n",
            "templates/a.yaml": _containers("{{ .Values.image | quote }}", '{{ printf "%s@%s" .Values.other.image .Values.other.digest }}'),
        },
        {f"{HOST}/aks/web:1@{_DIGEST}": f"NEW/aks/web:1@{_CHILD}", f"{HOST}/aks/web@{_DIGEST}": f"NEW/aks/web@{_CHILD}"},
    ),
    Case(
        "a list is repeated whole",
        {
            "values.yaml": f"sidecars:\n- {{name: a, image: '{HOST}/a:1'}}\n- {{name: b, image: 'nginx:1'}}\n",
            "templates/a.yaml": _POD + "{{- toYaml .Values.sidecars | nindent 2 }}\n",
        },
        {f"{HOST}/a:1": "NEW/a:1"},
        ("nginx:1",),
    ),
    Case(
        "an empty registry of all charts",
        {
            "values.yaml": "global: {imageRegistry: ''}\n",
            "templates/a.yaml": _containers(f'"{{{{ .Values.global.imageRegistry | default "{HOST}" }}}}/aks/web:1"'),
        },
        {f"{HOST}/aks/web:1": "NEW/aks/web:1"},
    ),
    Case(
        "sub-charts with aliases, and what the parent overrides",
        {
            "Chart.yaml": _META + "dependencies:\n- {name: sub, version: 1.x.x, alias: one}\n- {name: sub, version: 1.x.x, alias: two}\n",
            "values.yaml": f"two: {{image: '{HOST}/b:2'}}\n",
            "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
            "charts/sub/values.yaml": f"image: {HOST}/b:1\n",
            "charts/sub/templates/a.yaml": _containers('{{ tpl "{{ .Values.image }}" . }}'),
        },
        {f"{HOST}/b:1": "NEW/b:1", f"{HOST}/b:2": "NEW/b:2"},
    ),
    Case(
        "written in a template",
        {"values.yaml": "{}\n", "templates/a.yaml": _containers(f"{HOST}/fixed:1")},
        {},
        (f"{HOST}/fixed:1",),
        {f"{HOST}/fixed:1": "NEW/fixed:1"},
    ),
)
