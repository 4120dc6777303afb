"""From an index to the one manifest in it that is meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .artifact.kinds import IMAGE, kind_of, matches
from .artifact.payload import Choice
from .client.resolve import Resolved
from .client.session import Session
from .errors import InputError, IntegrityError, NotFoundError, PolicyError
from .oci import Descriptor, Index, Manifest, Platform
from .reference import Reference

MAX_NESTING: Final = 2
_LOOKED_AT: Final = 16
"""Manifests of an index that are looked at to find the only artifact among images."""


def artifact(client: Session, resolved: Resolved, choice: Choice, platform: Platform | None) -> Manifest:
    """The one manifest that is meant: of an index the one for the platform, or the only artifact in it.

    Raises:
        InputError: `platform-needed`.
        NotFoundError: `platform-not-found`.
        PolicyError: `limit-passed`.
    """
    manifest = resolved.manifest
    for _ in range(MAX_NESTING):
        if isinstance(manifest, Manifest):
            return manifest
        manifest = _child(client, resolved, manifest, choice, platform)
    if isinstance(manifest, Manifest):
        return manifest
    raise PolicyError(
        f"`{resolved.reference}` is an index in an index, more than {MAX_NESTING} deep",
        code="limit-passed",
        reference=str(resolved.reference),
        rule=f"at most {MAX_NESTING} indexes deep",
    )


def _child(client: Session, resolved: Resolved, index: Index, choice: Choice, platform: Platform | None) -> Manifest | Index:
    reference = resolved.reference
    if not index.manifests:
        raise NotFoundError(
            f"`{reference}` is an index that holds nothing",
            code="platform-not-found",
            hint="another version may be whole; tell the publisher",
            reference=str(reference),
        )
    # `unknown/unknown` is how build tools mark attestations, which are no artifacts of their own.
    children = [child for child in index.manifests if child.platform is None or child.platform.os != "unknown"]
    if choice.artifact_types:
        typed = [child for child in children if child.artifact_type and matches(child.artifact_type, choice.artifact_types)]
        children = typed or children
    if platform is not None:
        fitting = [child for child in children if child.platform is not None and child.platform.matches(platform)]
        plain = [child for child in fitting if child.platform is not None and child.platform.variant is None]
        children = plain or fitting
        if not children:
            raise NotFoundError(
                f"`{reference}` has nothing for the platform `{platform}`",
                code="platform-not-found",
                hint=_platforms_hint(index),
                reference=str(reference),
            )
    if len(children) == 1:
        return _child_manifest(client, resolved, children[0])
    if not children or len(children) > _LOOKED_AT:
        raise _platform_needed(reference, index)
    looked_at = client.each(lambda child: _child_manifest(client, resolved, child), children)
    artifacts = [child for child in looked_at if not (isinstance(child, Manifest) and kind_of(child) is IMAGE)]
    if choice.kinds:
        artifacts = [child for child in artifacts if not isinstance(child, Manifest) or kind_of(child) in choice.kinds]
    if len(artifacts) == 1:
        return artifacts[0]
    if not artifacts and (not choice.all_layers or platform is not None):
        return looked_at[0]  # images only: refused as such
    raise _platform_needed(reference, index)


def _child_manifest(client: Session, resolved: Resolved, child: Descriptor) -> Manifest | Index:
    reference = resolved.reference
    found = client.manifest(replace(reference, tag=None, digest=child.digest), resolved.source)
    if found.descriptor.size != child.size:
        raise IntegrityError(
            f"the manifest `{child.digest}` has {found.descriptor.size} bytes, but the index of `{reference}` says {child.size}",
            code="size-mismatch",
            reference=str(reference),
            expected=child.size,
            actual=found.descriptor.size,
        )
    return found


def _platforms_hint(index: Index) -> str:
    names = dict.fromkeys(str(child.platform) for child in index.manifests if child.platform and child.platform.os != "unknown")
    return f"it has {', '.join(f'`{name}`' for name in names)}" if names else "its manifests name no platform"


def _platform_needed(reference: Reference, index: Index) -> InputError:
    return InputError(
        f"`{reference}` is an index of {len(index.manifests)} artifacts",
        code="platform-needed",
        hint=f"choose one with `--platform`: {_platforms_hint(index)}",
        reference=str(reference),
        platforms=[str(child.platform) for child in index.manifests if child.platform],
    )
