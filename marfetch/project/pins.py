"""Pin tags to digests, and notice when a pinned tag was moved: tags of artifacts, and of the container images that charts name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ..artifact.kinds import CHART, matches
from ..artifact.payload import chart_types
from ..chart.images import FoundImages
from ..client.resolve import Found, Resolved, resolved_to
from ..client.session import Repository, Session
from ..destination.package import chart_files
from ..errors import Error, InputError, LockError, NotFoundError
from ..files import storage_error
from ..oci import Descriptor, Digest, Index, Manifest, Platform
from ..reference import Reference
from ..text import counted
from ..verify.gate import gate
from .lockfile import LockedImage
from .wanted import Item


def resolve_pinned(client: Session, asked: Reference, digest: Digest, name: str, *, asks_tag: bool) -> Resolved:
    """Fetch a locked manifest by its digest from the current endpoint.

    Args:
        asked: the reference with its tag, if it has one.
        digest: the locked digest.
        name: the item that locked it, for messages.
        asks_tag: whether to check first that the tag still has the locked digest. Offline, the check is skipped.

    Raises:
        LockError: `tag-drifted`: the tag was moved.
    """
    repository = client.repository(replace(asked, digest=None))
    if asks_tag and asked.tag is not None and not client.options.offline:
        _refuse_moved(repository, digest, name)
    return resolved_to(repository, repository.manifest(digest))


def _refuse_moved(repository: Repository, digest: Digest, name: str) -> None:
    bound = repository.reference
    try:
        now = repository.manifest()
    except NotFoundError as error:
        if error.code == "repository-not-found":
            raise
        repository.session.progress.warn(
            f"`{name}`: the tag `{bound.tag}` of `{bound.full_repository}` is gone, so the locked digest is used"
        )
    else:
        if Digest.of(now.raw, digest.algorithm) != digest:
            raise LockError(
                f"the tag `{bound.tag}` of `{bound.full_repository}` was moved: `{digest}` is locked,"
                f" but the registry has `{now.descriptor.digest}`",
                code="tag-drifted",
                hint=f"find out why the publisher moved it; to accept the new content, run `marfetch lock --upgrade {name}`",
                entry=name,
                reference=str(bound),
                expected=str(digest),
                actual=str(now.descriptor.digest),
            )


# -- the images that charts name


class ImageTask(NamedTuple):
    """The images of one item to lock.

    Attributes:
        previous: the images that were locked before, whose digests are kept.
        names_chart: whether to search the chart for its images. If false, only check that the tags of the previous images were not moved.
    """

    item: Item
    found: Found
    previous: tuple[LockedImage, ...]
    names_chart: bool = True


class _Pin(NamedTuple):
    """A manifest to request. Tasks that name the same image share one `_Pin`.

    Attributes:
        reference: the reference with the tag or digest to request.
        locked: the digest that the tag must still have; None if it was not locked before.
        is_verified: whether the signatures must be checked.
    """

    reference: Reference
    locked: Digest | None
    is_verified: bool


class _Wish(NamedTuple):
    image: str
    pin: _Pin | None
    reference: Reference | None


def lock_images(client: Session, tasks: Sequence[ImageTask]) -> list[tuple[LockedImage, ...] | Error]:
    """Lock the images of several charts. Each image is requested once. Images that are not at the endpoint are not requested.

    Returns:
        The sorted images of each task, or the first error of the task.
    """

    def searched(task: ImageTask) -> list[_Wish] | Error:
        try:
            return _wishes(client, task)
        except Error as error:
            return error
        except OSError as error:
            return storage_error(error, str(error.filename or task.item.name))

    wishes = client.each(searched, tasks, label="searching", unit="charts")
    pins = list(dict.fromkeys(wish.pin for one in wishes if not isinstance(one, Error) for wish in one if wish.pin is not None))
    answers = dict(zip(pins, client.each(partial(_asked, client), pins, label="resolving", unit="images"), strict=True))

    def locked(task: ImageTask, wishes: list[_Wish] | Error) -> tuple[LockedImage, ...] | Error:
        if isinstance(wishes, Error):
            return wishes
        try:
            return tuple(_locked(task, wish, answers[wish.pin] if wish.pin is not None else None) for wish in wishes)
        except Error as error:
            return error

    return [locked(task, one) for task, one in zip(tasks, wishes, strict=True)]


def _wishes(client: Session, task: ImageTask) -> list[_Wish]:
    item, known = task.item, {one.image: one for one in task.previous}
    images = _images_of(client, task) if task.names_chart else list(known)
    for glob in item.images if task.names_chart else ():
        if glob != "*" and not any(matches(image, (glob,)) for image in images):
            client.progress.warn(f"`{item.name}`: the chart names no image like `{glob}`")
    endpoint = client.endpoint(item.reference)
    wishes: list[_Wish] = []
    external: list[str] = []
    for image in sorted(image for image in images if matches(image, item.images)):
        parsed = _parsed(image)
        if parsed is None or not endpoint.serves(parsed):
            external.append(f"`{image}`" + (" (not a valid reference)" if parsed is None else ""))
            wishes.append(_Wish(image, None, None))
            continue
        # As in Kubernetes and Docker: a digest wins over a tag, and an image without both has the tag `latest`.
        tag = parsed.tag or (None if parsed.digest else "latest")
        asked = replace(item.reference, repository=parsed.repository, tag=None if parsed.digest else tag, digest=parsed.digest)
        before = known.get(image)
        digest = before.reference.digest if before is not None and before.reference is not None else None
        bound = client.repository(asked).reference
        wishes.append(_Wish(image, _Pin(asked, digest, item.verify), replace(bound, tag=tag, digest=None)))
    if external:
        count = f"{counted(len(external), 'image')} that {'is' if len(external) == 1 else 'are'} not at `{endpoint.registry.name}`"
        client.progress.warn(f"`{item.name}`: the lock lists {count}, but cannot pin or bundle them: {', '.join(external)}")
    return wishes


def _parsed(image: str) -> Reference | None:
    try:
        return Reference.parse(image) if "://" not in image and " " not in image else None
    except Error:
        return None


def _images_of(client: Session, task: ImageTask) -> list[str]:
    """Return the images that a chart names. Parts of the chart that cannot be searched are warnings.

    Raises:
        InputError: `wanted-invalid`: the artifact is not a chart.
        Error: the chart cannot be downloaded or unpacked.
    """
    item, found = task.item, task.found
    if found.kind is not CHART:
        raise InputError(
            f"`{item.name}` has `images`, but `{found.resolved.reference.shown}` is not a Helm chart: it is a {found.kind.title}",
            code="wanted-invalid",
            hint="remove `images` and `platforms`",
            line=item.line,
        )
    images: list[str] = []
    for layer in found.manifest.layers:
        if not matches(layer.media_type, chart_types(found.manifest)):
            continue
        named = found.resolved.repository.use(layer, partial(_named, client, layer, item.name))
        for path, reason in named.unread.items():
            client.progress.warn(f"`{item.name}`: cannot search `{path}` for images, so images may be missing from the lock: {reason}")
        for path, reason in named.guessed.items():
            client.progress.warn(f"`{path}` of `{item.name}` was searched line by line, because marfetch cannot evaluate it: {reason}")
        images += named.images
    return list(dict.fromkeys(images))


def _named(client: Session, layer: Descriptor, name: str) -> FoundImages:
    with client.cache.open(layer.digest) as blob:
        try:
            return chart_files(blob, layer, name, check=client.budget.check).images(check=client.budget.check)
        except Error as error:
            error.message = f"cannot search the chart `{name}` for images: {error.message}"
            error.args = (error.message,)
            raise


def _asked(client: Session, pin: _Pin) -> Manifest | Index | Error:
    try:
        if pin.locked is None:
            repository = client.repository(pin.reference)
            resolved = resolved_to(repository, repository.manifest())
        else:
            resolved = resolve_pinned(client, pin.reference, pin.locked, pin.reference.name, asks_tag=True)
        check = gate(asked=pin.is_verified)
        if check is not None:
            check(client, resolved)
    except Error as error:
        return error
    except OSError as error:
        return storage_error(error, str(error.filename or pin.reference))
    return resolved.manifest


def _locked(task: ImageTask, wish: _Wish, answer: Manifest | Index | Error | None) -> LockedImage:
    name = task.item.name
    if isinstance(answer, Error):
        hint = answer.hint
        if answer.code == "tag-drifted":
            hint = f"to accept the new content, run `marfetch lock --upgrade {name}`"
        elif isinstance(answer, NotFoundError):
            hint = "to lock only some images, list them, such as `images: [HOST/REPOSITORY:TAG]`"
        raise type(answer)(f"the image `{wish.image}` of `{name}`: {answer.message}", code=answer.code, hint=hint, **answer.context)
    if answer is None or wish.reference is None:
        return LockedImage(wish.image)
    descriptor = replace(answer.descriptor, annotations={})
    children = _children(answer, task.item, wish.image) if isinstance(answer, Index) else ()
    return LockedImage(wish.image, wish.reference.pinned(descriptor.digest), descriptor, children)


def _children(index: Index, item: Item, image: str) -> tuple[Descriptor, ...]:
    """Return the manifests of an index for the platforms of an item, in the order of the platforms.

    Raises:
        NotFoundError: `platform-not-found`.
    """
    chosen: dict[Digest, Descriptor] = {}
    there = [one for one in index.manifests if one.platform is not None and not one.is_attestation]
    for platform in map(Platform.parse, item.platforms):
        fitting = [one for one in there if one.platform is not None and one.platform.matches(platform)]
        if not fitting:
            names = ", ".join(f"`{name}`" for name in dict.fromkeys(str(one.platform) for one in there))
            raise NotFoundError(
                f"the image `{image}` of `{item.name}` has nothing for the platform `{platform}`",
                code="platform-not-found",
                hint=f"it has {names}" if names else "its manifests name no platform",
                reference=image,
                platforms=[str(one.platform) for one in there],
            )
        chosen |= {one.digest: replace(one, annotations={}) for one in fitting}
    return tuple(chosen.values())
