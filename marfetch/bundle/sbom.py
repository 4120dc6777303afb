"""Write a bill of materials of a bundle: CycloneDX 1.6 as JSON, by the library `cyclonedx-python-lib` (the extra `sbom`).

Equal bundles give equal bytes: it contains no time, and the serial number is derived from the digests of the artifacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from .. import __version__
from ..artifact.kinds import BICEP_EXTENSION, BICEP_MODULE, CHART, IMAGE, POWERSHELL
from ..errors import InputError
from ..oci import Digest
from .check import check_content, refuse_broken
from .format import Opened
from .inventory import BundleItem, bundle_items

if TYPE_CHECKING:
    from collections.abc import Callable

    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL

_NAMESPACE: Final = "marfetch"
_LONGEST_EXPRESSION: Final = 300
"""Maximum length of an SPDX expression in characters. A longer license is used as a name."""
_APPLICATIONS: Final = (CHART.name,)
_LIBRARIES: Final = (BICEP_MODULE.name, BICEP_EXTENSION.name, POWERSHELL.name)


def sbom(found: Opened, check: Callable[[], None]) -> str:
    """Return the bill of materials of a bundle or another layout.

    There is one component for each artifact, with its digest, its purl and the licenses that it declares. Container images that charts name
    but that are not in the bundle have the scope `excluded`.

    Args:
        check: called regularly; it may raise to cancel.

    Raises:
        InputError: `usage`: the extra `sbom` is not installed.
        IntegrityError: `bundle-broken`.
    """
    try:
        from cyclonedx.model.bom import Bom  # late: an optional dependency, needed only here
        from cyclonedx.model.component import Component, ComponentScope, ComponentType  # late: an optional dependency
        from cyclonedx.output.json import JsonV1Dot6  # late: an optional dependency
    except ImportError as error:
        raise InputError(
            "`bundle sbom` needs the extra `sbom`, which is not installed", code="usage", hint="run: pip install 'marfetch[sbom]'"
        ) from error
    refuse_broken(found, check_content(found, budget=check))
    found.contents.load()
    items = bundle_items(found.contents, found.lock, with_images=True)
    bom = Bom()
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the schema does not require it
    root = Component(name="bundle", type=ComponentType.FILE, bom_ref="bundle")
    bom.metadata.component = root
    bom.metadata.tools.components.add(Component(name="marfetch", version=__version__, type=ComponentType.APPLICATION))
    components = {str(item.reference): _component(item) for item in items}
    by_name = _image_names(items, components)
    for item in items:
        for image in item.images:
            if image not in by_name:
                name, version, purl = _image_purl(image)
                by_name[image] = Component(
                    name=name, version=version, type=ComponentType.CONTAINER, bom_ref=image, purl=purl, scope=ComponentScope.EXCLUDED
                )
                components[image] = by_name[image]
    for component in components.values():
        bom.components.add(component)
    bom.register_dependency(root, [components[str(item.reference)] for item in items])
    for item in items:
        bom.register_dependency(components[str(item.reference)], [by_name[image] for image in item.images])
    bom.serial_number = UUID(bytes=hashlib.sha256("\n".join(sorted(components)).encode()).digest()[:16], version=5)
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _image_names(items: Sequence[BundleItem], components: Mapping[str, Component]) -> dict[str, Component]:
    """Return image reference in a chart → component of that image, for the images in the bundle."""
    there: dict[str, Component] = {}
    for item in items:
        if item.is_carried_image or item.kind == IMAGE.name:
            reference = item.reference
            for name in (str(reference), reference.full_repository, f"{reference.full_repository}:{reference.tag}"):
                there.setdefault(name, components[str(reference)])
    # A chart may pin the digest of an index of which the bundle has only one platform, so match the repository too.
    names = {image for item in items for image in item.images}
    carried = {image for item in items for image in item.carried}
    found = {image: there.get(image) or there.get(image.partition("@")[0]) for image in names}
    found |= {image: found[image] or there.get(_image_purl(image)[2].qualifiers["repository_url"]) for image in carried & names}
    return {image: component for image, component in found.items() if component is not None}


def _component(item: BundleItem) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri  # late: an optional dependency
    from cyclonedx.model.component import Component, ComponentType  # late: an optional dependency
    from cyclonedx.model.component_evidence import ComponentEvidence, Identity, IdentityField  # late: an optional dependency
    from packageurl import PackageURL  # late: an optional dependency

    reference = item.reference
    kind = ComponentType.FILE
    if item.kind in (*_APPLICATIONS, *_LIBRARIES, IMAGE.name):
        kind = ComponentType.CONTAINER if item.kind == IMAGE.name else ComponentType.LIBRARY
        kind = ComponentType.APPLICATION if item.kind in _APPLICATIONS else kind
    tag = {"tag": reference.tag} if reference.tag else {}
    image = PackageURL("oci", None, reference.name, str(item.descriptor.digest), {"repository_url": reference.full_repository, **tag})
    folder = reference.full_repository.rpartition("/")[0]
    is_chart = item.kind == CHART.name and item.version is not None
    chart = PackageURL("helm", None, reference.name, item.version, {"repository_url": f"oci://{folder}"})
    properties = {"kind": item.kind, "mediaType": item.descriptor.media_type, "size": str(item.size)}
    properties |= {f"layer:{layer.digest}": layer.media_type for layer in item.layers}
    return Component(
        name=reference.name,
        group=folder,
        version=item.version or reference.tag or str(item.descriptor.digest),
        type=kind,
        bom_ref=str(reference),
        purl=chart if is_chart else image,
        # A component has only one purl, but a chart has two: one with its name and version, one with the digest of its manifest.
        evidence=ComponentEvidence(identity=[Identity(field=IdentityField.PURL, concluded_value=str(image))]) if is_chart else None,
        hashes=_hashes([item.descriptor.digest]),
        licenses=_licenses(item.licenses),
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(f"oci://{reference}"))],
        properties=[Property(name=f"{_NAMESPACE}:{name}", value=value) for name, value in properties.items()],
    )


def _hashes(digests: Sequence[Digest]) -> list[HashType]:
    from cyclonedx.model import HashAlgorithm, HashType  # late: an optional dependency

    known: Mapping[str, HashAlgorithm] = {
        "sha256": HashAlgorithm.SHA_256,
        "sha384": HashAlgorithm.SHA_384,
        "sha512": HashAlgorithm.SHA_512,
    }
    return [HashType(alg=known[one.algorithm], content=one.encoded) for one in digests if one.algorithm in known]


def _licenses(texts: Sequence[str]) -> list[License]:
    """Return the licenses as the schema allows them: one SPDX expression, or any number of SPDX identifiers and names."""
    from cyclonedx.contrib.license.factories import LicenseFactory  # late: an optional dependency
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression  # late: an optional dependency

    declared = LicenseAcknowledgement.DECLARED
    found: list[License] = []
    for text in texts:
        if len(text) <= _LONGEST_EXPRESSION:
            one = LicenseFactory().make_from_string(text, license_acknowledgement=declared)
        else:
            one = DisjunctiveLicense(name=text, acknowledgement=declared)
        if isinstance(one, LicenseExpression) and len(texts) > 1:
            one = DisjunctiveLicense(name=text, acknowledgement=declared)
        found.append(one)
    return found


def _image_purl(image: str) -> tuple[str, str | None, PackageURL]:
    """Return name, version and purl of a container image that a chart names."""
    from packageurl import PackageURL  # late: an optional dependency

    place, _, digest = image.partition("@")
    head, colon, tag = place.rpartition(":")
    repository, tag = (place, "") if not colon or "/" in tag else (head, tag)
    first, slash, _ = repository.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):  # a short name of Docker Hub
        repository = f"docker.io/{repository}" if slash else f"docker.io/library/{repository}"
    name = repository.rpartition("/")[2]
    qualifiers = {"repository_url": repository, **({"tag": tag} if tag else {})}
    return name, tag or digest or None, PackageURL("oci", None, name.lower(), digest or None, qualifiers)
