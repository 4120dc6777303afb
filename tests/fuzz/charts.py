"""Targets: the content of a chart. Whatever templates a chart contains, the search must not fail, and must end in time."""

from __future__ import annotations

import re

from marfetch.chart.images import find_images
from marfetch.chart.manifests import images_in
from marfetch.chart.relocation import relocate
from marfetch.chart.template.matching import matches
from marfetch.chart.template.syntax import TemplateError

from .target import Target

_FILES = ("templates/a.yaml", "values.yaml", "templates/_h.tpl", "Chart.yaml", "charts/s-1.tgz/templates/b.yaml", "crds/c.yaml")

CHARTS = [
    b'image: "{{ .Values.r }}/{{ .Values.n }}:{{ .Values.t | default .Chart.AppVersion }}"\0r: mcr.microsoft.com\nn: a/b\nt: ""\n',
    b'{{- include "x" (dict "a" .Values "b" $) | nindent 2 }}\0a: {image: r.example/a:1}\n\0{{ define "x" }}spec:\n{{ toYaml .a | indent 2 }}{{ end }}',
    b'{{ range $k, $v := .Values.m }}{{ if eq $k "b" }}{{ continue }}{{ end }}\nimage: {{ tpl $v $ | quote }}\n{{ else }}-{{ end }}\0m: {a: "x/{{ .Chart.Name }}:1", b: y}',
    b'{{ with $x := (fromYaml "a: [1, {b: c}]") }}{{ range until 3 }}{{ printf "%05d|%-4s|%q" . "a" $x.a }}{{ end }}{{ end }}{{ template "q" . }}{{ define "q" }}{{ break }}{{ end }}',
    b'{{ regexReplaceAll "(a+)+b" .Values.s "${1}" }}{{ semverCompare ">=1.2-0" "v1.3" }}{{ trunc -3 "abcdef" | upper | b64enc | sha256sum }}\0s: aaaaaaaaaaaaaaaaaaaa\n',
    b"image: x/y:1\0\0\0name: a\ndependencies: [{name: s, alias: t, condition: a.b, tags: [q], import-values: [d, {child: a, parent: b}]}]\nannotations: {artifacthub.io/images: '- image: a/b:1'}\0image: q/r:2\0spec: {properties: {image: {default: a/b:1}}}",
    b'{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ toYaml $d }}{{ repeat 9 "ab" | splitList "b" | join "," }}',
]
EXPRESSIONS = [
    rb"^([0-9]+)(\.[0-9]+)?(-([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?$" + b"\x001.2-rc.1",
    b"(a*)*b\0aaaaaaaa",
    rb"(?im)[^a-c]{2,3}?|\bx\z" + b"\0Abxyz x",
]


def _images(data: bytes) -> None:
    files = dict(zip(_FILES, data.split(b"\0"), strict=False))
    found = find_images(files)
    assert find_images(files) == found, "the same files give the same images"
    assert all(one.image and len(one.image) <= 1024 and "\n" not in one.image for one in found.named)
    first = {one.image: f"new.example/{one.image.partition('/')[2] or 'x'}" for one in found.named[:2]}
    relocate(files, first, "new.example")


def _manifests(data: bytes) -> None:
    for one in images_in(data.decode("utf-8", "replace")):
        assert one.start <= one.end


def _expressions(data: bytes) -> None:
    pattern, _, text = data.decode("utf-8", "replace").partition("\0")
    try:
        found = list(matches(pattern, text))
    except TemplateError:
        return
    for match in found:
        assert 0 <= match[0][0] <= match[0][1] <= len(text)
    if found and re.fullmatch(r"[\w.*+?]+", pattern, re.ASCII) and not re.search(r"[*+?]{2}|_", pattern) and len(text) < 12:
        first = re.search(pattern, text, re.ASCII)
        assert first is not None
        assert first.span() == found[0][0]


TARGETS = (
    Target(
        "chart-images",
        _images,
        lambda: CHARTS,
        (),
        ("chart.images.find_images", "chart.rendering.render", "chart.relocation.relocate", "chart.template.syntax.Parser.parse"),
        runs=300,
    ),
    Target("manifests", _manifests, lambda: CHARTS, (), ("chart.manifests.images_in",), runs=500),
    Target("expressions", _expressions, lambda: EXPRESSIONS, (), ("chart.template.matching.matches",), runs=600),
)
