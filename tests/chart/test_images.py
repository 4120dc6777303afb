"""Find the container images that the files of a chart name."""

from __future__ import annotations

import pytest

from marfetch.chart.images import NamedImage, find_images, is_packed_subchart


def images(values: str, path: str = "values.yaml") -> list[tuple[str, str, str]]:
    return [tuple(one) for one in find_images({path: values.encode()}).named]  # type: ignore[misc]


def test_values_name_images_by_key() -> None:
    text = "image: {registry: r.example, repository: a/b, tag: '1', digest: ''}\nsidecars:\n- image: r.example/c:2\n- {initImage: x/y}\n"
    assert images(text) == [
        ("r.example/a/b:1", "values.yaml:image.repository", "values"),
        ("r.example/c:2", "values.yaml:sidecars[0].image", "values"),
        ("x/y", "values.yaml:sidecars[1].initImage", "values"),
    ]


def test_each_file_of_a_chart_and_its_subcharts_has_its_source() -> None:
    line = "a: 1\n  image: r.example/a:1\n"
    files = dict.fromkeys(["templates/d.yaml", "charts/sub/templates/x.yaml", "charts/a/charts/b-1.tgz/crds/c.yml", "README.md"], line)
    files["charts/b-1.tgz/values.yaml"] = "image: r.example/a:1"
    found = find_images({path: text.encode() for path, text in files.items()})
    assert set(found.named) == {
        NamedImage("r.example/a:1", "templates/d.yaml:2", "template"),
        NamedImage("r.example/a:1", "charts/sub/templates/x.yaml:2", "template"),
        NamedImage("r.example/a:1", "charts/a/charts/b-1.tgz/crds/c.yml:2", "crd"),
        NamedImage("r.example/a:1", "charts/b-1.tgz/values.yaml:image", "values"),
    }
    assert (found.images, found.unread) == (("r.example/a:1",), {})


def test_anchors_and_merge_keys_are_followed() -> None:
    text = "base: &b {repository: r.example/a, tag: 1}\nimage: *b\nother: {<<: *b, tag: 2}\n"
    assert [image for image, where, _ in images(text) if not where.endswith("base.repository")] == ["r.example/a:1", "r.example/a:2"]


@pytest.mark.parametrize(
    "text",
    [
        "image: [",
        "a: &a [*a]",
        "a: *b",
        "x0: &x0 [1,1,1,1,1,1,1,1,1]\n" + "".join(f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "x0: &x0 1\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 80)),
    ],
    ids=["cut", "recursive", "unknown", "bomb", "deep"],
)
def test_values_that_cannot_be_read_are_named(text: str) -> None:
    found = find_images({"charts/sub/values.yaml": text.encode()})
    assert "malformed" in found.unread["charts/sub/values.yaml"]


def test_values_are_read_as_by_helm_with_old_booleans_and_octal_numbers() -> None:
    text = "yes: {image: {repository: a, tag: 010}}\nlist: [{image: {repository: b, tag: 1_000}}, {image: {repository: c, tag: 0b11}}]\n"
    text += "x: {image: {repository: d, tag: on}}\nn: {image: {repository: e, tag: 'no'}}\n1.50: {image: {repository: f, tag: 9e999}}\n"
    assert [one[:2] for one in images(text)] == [
        ("a:8", "values.yaml:true.image.repository"),
        ("b:1000", "values.yaml:list[0].image.repository"),
        ("c:3", "values.yaml:list[1].image.repository"),
        ("e:no", "values.yaml:false.image.repository"),
        ("f:9e999", "values.yaml:1.5.image.repository"),
    ]


def test_the_last_of_several_equal_keys_counts_as_in_helm() -> None:
    assert images("image: a/b\nimage: a/c\n") == [("a/c", "values.yaml:image", "values")]


def test_values_are_read_as_by_helm_with_merge_keys_and_tags() -> None:
    found = find_images({"values.yaml": b"a: &a {repository: x/y, tag: '1'}\nb:\n  image: {<<: *a, tag: !!str 2}\nc: !custom {d: .inf}\n"})
    assert (found.images, found.unread) == (("x/y:1", "x/y:2"), {})


def test_a_template_that_is_no_text_is_named() -> None:
    assert "not UTF-8" in find_images({"templates/a.yaml": b"image: a/b:1\xff"}).unread["templates/a.yaml"]


@pytest.mark.parametrize(
    ("path", "is_one"),
    {
        "charts/sub-1.0.0.tgz": True,
        "charts/mid/charts/sub.tgz": True,
        "charts/_off.tgz": False,
        "charts/.off.tgz": False,
        "charts/a/files/sub.tgz": False,
        "files/charts/sub.tgz": False,
        "charts/sub.tar.gz": False,
        "charts/sub.tgz.prov": False,
    }.items(),
)
def test_packed_subcharts_are_those_of_helm(path: str, is_one: bool) -> None:
    assert is_packed_subchart(path) is is_one
