"""List the container images of charts in a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from ..artifact.kinds import CHART, kind_of
from ..artifact.payload import Choice
from ..chart.images import FoundImages, NamedImage
from ..destination.package import chart_files
from ..document import parse_yaml
from ..errors import Error, InputError, IntegrityError, PolicyError
from ..files import storage_error
from .pull import PullOptions, found
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Session

Rendering: TypeAlias = Callable[[Iterable[bytes], str], FoundImages]
"""Finds the images of a packed chart in the manifests that Helm renders. Arguments: the bytes of the package, and its name for messages."""
MAX_VALUES_FILE: Final = 4 << 20
"""Maximum size in bytes of a file with values."""


@dataclass(frozen=True, slots=True)
class ChartImages:
    """The images of one chart.

    Attributes:
        chart: the reference of the chart, for output.
        named: the images, each once.
        unread: path in the chart → why it could not be searched; the empty path means the whole chart.
        guessed: path of a template that could not be evaluated → reason.
    """

    chart: str
    named: Sequence[NamedImage] = ()
    unread: Mapping[str, Error] = field(default_factory=dict)
    guessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> Error | None:
        """The first failure."""
        return next(iter(self.unread.values()), None)


def chart_images(chart: str, found: FoundImages, errors: Mapping[str, Error]) -> ChartImages:
    """Return the images of a chart, each with the first place that names it.

    Args:
        errors: path → error. A path of `found.unread` may have no error here.
    """
    first = {one.image: one for one in reversed(found.named)}
    named = [one for one in dict.fromkeys(found.named) if first[one.image] is one]
    unread = {
        path: errors.get(path) or IntegrityError(reason, code="malformed", what=path) for path, reason in sorted(found.unread.items())
    }
    return ChartImages(chart, named, unread, found.guessed)


def read_values(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read files with values, which may be any files that `helm template --values` accepts.

    Raises:
        InputError: `usage`: a file does not exist, or is not a mapping.
        StorageError: a file cannot be read.
    """
    values: list[dict[str, Any]] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                found = parse_yaml(file.read(MAX_VALUES_FILE + 1), f"`{path}`", limit=MAX_VALUES_FILE, is_helm=True)
        except FileNotFoundError as error:
            raise InputError(f"there is no file `{path}`", code="usage", hint="name a YAML file with values") from error
        except OSError as error:
            raise storage_error(error, path) from error
        except IntegrityError as error:
            raise InputError(error.message, code="usage", hint="name a YAML file with values") from error
        if not isinstance(found, dict) and found is not None:
            raise InputError(f"`{path}` is not a mapping", code="usage", hint="name a YAML file with values")
        values.append(found or {})
    return values


def images_of(
    client: Session,
    wanted: Sequence[Wanted],
    *,
    values: Sequence[Mapping[str, Any]] = (),
    rendering: Rendering | None = None,
    skips_others: bool = False,
) -> list[ChartImages]:
    """Return the images of charts, through the cache, in the order of the arguments. A chart that fails has its error in `unread`.

    Args:
        values: values that override those of the charts.
        rendering: lets Helm render the templates, which are then not evaluated here; None to evaluate them.
        skips_others: leave out artifacts that are not charts; otherwise each of them is a failure.
    """
    client.fetches = True

    def one(asked: Wanted) -> ChartImages | None:
        try:
            resolved = resolve(client, asked)
            if skips_others and kind_of(artifact(resolved, Choice(), None)) is not CHART:
                return None
            return _images_of(client, resolved, values, rendering)
        except Error as error:
            return ChartImages(asked.reference.shown, unread={"": error})
        except OSError as error:
            return ChartImages(asked.reference.shown, unread={"": storage_error(error, str(error.filename or asked.reference))})

    return [found for found in client.each(one, wanted, label="searching", unit="charts") if found is not None]


def _images_of(client: Session, resolved: Resolved, values: Sequence[Mapping[str, Any]], rendering: Rendering | None) -> ChartImages:
    reference = resolved.reference
    kind = kind_of(artifact(resolved, Choice(), None))
    if kind is not CHART:
        raise PolicyError(
            f"`{reference.shown}` is not a chart: its kind is `{kind.name}`",
            code="kind-refused",
            hint=f"to see what it is, run: marfetch inspect {reference.shown}",
            reference=str(reference),
            rule="only charts name images",
        )
    layer = found(client, resolved, PullOptions(Path())).payloads[0].layer

    def read() -> ChartImages:
        if rendering is not None:
            return chart_images(reference.shown, rendering(client.cache.pieces(layer), reference.shown), {})
        with client.cache.open(layer.digest) as blob:
            files = chart_files(blob, layer, reference.shown, check=client.budget.check)
        return chart_images(reference.shown, files.images(values, client.budget.check), files.unread)

    return resolved.repository.use(layer, read)
