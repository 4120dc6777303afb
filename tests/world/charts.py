"""Add charts and Bicep modules to a registry, as `helm push` and Bicep do."""

from __future__ import annotations

import json
from typing import Any, Final

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.oci import OCI_MANIFEST, Descriptor, Digest, descriptor_json

from .archives import file, targz
from .registry import Registry

VALUES: Final = """
image: {registry: mcr.microsoft.com, repository: aks/web, tag: "1.0"}
sidecar: {image: "mcr.microsoft.com/aks/side:2"}
replicas: 1
hosts: [a, b]
on: true
"""
"""A `values.yaml` that names two images."""


def add_chart(
    mar: Registry,
    repository: str,
    tag: str,
    package: bytes,
    *more: tuple[str, bytes],
    config: bytes = b'{"name":"toy"}',
    config_size: int | None = None,
    **fields: Any,
) -> Descriptor:
    """Add a chart, and return the descriptor of its manifest.

    Args:
        package: the archive, or any other bytes.
        more: further layers, as media type and bytes.
        config_size: the config's size in the manifest; None: the right size.
        fields: further fields of the manifest, which replace fields of the same name.
    """
    layers = [{**descriptor_json(mar.add_blob(data)), "mediaType": media_type} for media_type, data in ((HELM_CHART, package), *more)]
    described = {**descriptor_json(mar.add_blob(config)), "mediaType": HELM_CONFIG}
    if config_size is not None:
        described["size"] = config_size
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers, **fields}
    return mar.add_manifest(repository, tag, json.dumps(document).encode())


def add_foo(mar: Registry, tag: str, files: dict[str, str] | None = None) -> None:
    """Add the chart `charts/foo` with these values, templates and other files."""
    metadata = f"apiVersion: v2\nname: foo\nversion: {tag}\nappVersion: '1'\n"
    whole = {"Chart.yaml": metadata, "values.yaml": VALUES, **(files or {})}
    package = targz(*(file(f"foo/{name}", text.encode()) for name, text in whole.items()))
    notes = {"org.opencontainers.image.title": "foo", "org.opencontainers.image.version": tag}
    add_chart(mar, "charts/foo", tag, package, annotations=notes)


def add_module(mar: Registry, tag: str, template: dict[str, Any]) -> None:
    """Add the Bicep module `bicep/foo` with this compiled template."""
    blob = mar.add_blob(json.dumps({"$schema": "x", "metadata": {"_generator": {"templateHash": tag}}, **template}).encode())
    mar.add_artifact(
        "bicep/foo",
        tag,
        artifactType="application/vnd.ms.bicep.module.artifact",
        config={"mediaType": "application/vnd.ms.bicep.module.config.v1+json", "digest": str(Digest.of(b"{}")), "size": 2},
        layers=[{"mediaType": "application/vnd.ms.bicep.module.layer.v1+json", "digest": str(blob.digest), "size": blob.size}],
    )
