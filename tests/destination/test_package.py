"""The text files of a chart package, and of the packed sub-charts in it."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from marfetch.chart.images import find_images
from marfetch.destination import package, packed
from marfetch.destination.package import ChartFiles, chart_files, with_subcharts
from marfetch.errors import Error, IntegrityError, PolicyError
from marfetch.oci import Descriptor, Digest

from ..world.archives import chart, file, gzipped_zeros, header, targz

VALUES = b"image: {repository: r.example/x, tag: 2}\n"


def read(raw: bytes, *, digest: Digest | None = None) -> ChartFiles:
    return chart_files(io.BytesIO(raw), Descriptor("application/gzip", digest or Digest.of(raw), len(raw)), "toy.tgz")


def nested(levels: int) -> bytes:
    """Return a chart that contains a packed sub-chart, and so on, to this number of levels."""
    raw = chart("sub", "1.0.0", file("sub/values.yaml", VALUES))
    for _ in range(levels):
        raw = chart("toy", "1.0.0", file("toy/charts/sub.tgz", raw))
    return raw


def test_packed_subcharts_are_read_at_every_depth() -> None:
    found = read(chart("toy", "1.0.0", file("toy/charts/mid.tgz", nested(1)), file("toy/x.bin", b"x"), file("toy/a/t.tpl", b"t")))
    assert {path: text for path, text in found.texts.items() if "Chart" not in path and "cm" not in path} == {
        "charts/mid.tgz/charts/sub.tgz/values.yaml": VALUES,
        "a/t.tpl": b"t",
        "x.bin": b"x",
    }
    assert found.unread == {}
    assert find_images(found.texts).named[0].where == "charts/mid.tgz/charts/sub.tgz/values.yaml:image.repository"


def test_links_are_told_where_they_could_name_images() -> None:
    links = (header(f"toy/{path}", sort=b"2", link=b"x") for path in ("LICENSE", "templates/a.yaml"))
    assert list(read(chart("toy", "1.0.0", *links)).unread) == ["templates/a.yaml"]


def test_charts_are_read_as_helm_reads_them() -> None:
    windows = targz(file("a\\Chart.yaml", b"name: sub\n"), file("a\\values.yaml", VALUES))
    found = read(chart("other", "1.0.0", file("top/charts/sub.tgz", windows), top="top"))
    assert found.texts["charts/sub.tgz/values.yaml"] == VALUES


@pytest.mark.parametrize(
    ("raw", "reason"),
    {
        "not an archive": (b"no archive", "not compressed with gzip"),
        "cut": (nested(0)[:-30], "truncated"),
        "no chart": (targz(file("a/x", b"")), "no `a/Chart.yaml`"),
        "leads out": (chart("sub", "1", file("sub/../../x.yaml", b"")), "`..`"),
        "link": (chart("sub", "1", file("sub/x.yaml", sort=b"2")), "link"),
        "too deep": (nested(8), "more than 8 levels"),
    }.values(),
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_broken_subchart_is_unread_and_the_rest_is_read(raw: bytes, reason: str) -> None:
    found = read(chart("toy", "1", file("toy/charts/bad.tgz", raw), file("toy/values.yaml", VALUES)))
    assert found.texts["values.yaml"] == VALUES
    assert [path.partition(".tgz")[0] for path in found.unread] == ["charts/bad"]
    assert reason in next(iter(found.unread.values())).message


@pytest.mark.parametrize(
    "limit",
    [
        lambda patch: patch.setattr(package, "MAX_PACKAGES", 2),
        lambda patch: patch.setattr(packed, "MAX_CHART", 6000),
        lambda patch: patch.setattr(package, "MAX_TEXTS", 250),
    ],
    ids=["packages", "unpacked", "texts"],
)
def test_all_subcharts_share_the_limits(limit: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_CHART", 1 << 20)
    raw = nested(0)
    found = with_subcharts({f"charts/{number}.tgz": raw for number in range(9)})
    assert not found.unread
    limit(monkeypatch)
    found = with_subcharts({f"charts/{number}.tgz": raw for number in range(9)})
    assert 0 < len(found.unread) < 9
    assert find_images(found.texts).images == ("r.example/x:2",)


@pytest.mark.parametrize(
    ("raw", "digest", "error"),
    [
        (b"x", None, IntegrityError),
        (chart("toy", "1", file("b/x")), None, PolicyError),
        (chart("toy", "1"), Digest.of(b""), IntegrityError),
    ],
    ids=["broken", "refused", "wrong digest"],
)
def test_a_broken_chart_is_an_error(raw: bytes, digest: Digest | None, error: type[Error]) -> None:
    with pytest.raises(error):
        read(raw, digest=digest)


def test_the_unpacked_bytes_of_broken_subcharts_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_CHART", 3 << 20)
    bomb = gzipped_zeros(2 << 20, file("a/Chart.yaml", b"name: a\n"))
    found = with_subcharts({**{f"charts/{number}.tgz": bomb for number in range(5)}, "charts/good.tgz": nested(0)})
    assert list(found.unread) == [f"charts/{number}.tgz" for number in range(5)] + ["charts/good.tgz"]
