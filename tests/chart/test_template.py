"""Templates are evaluated as Go, Sprig and Helm do; results here are those of `helm template`."""

from __future__ import annotations

from typing import Any

import pytest

from marfetch.chart.images import find_images
from marfetch.chart.rendering import render
from marfetch.chart.template.evaluate import Evaluator, Meter
from marfetch.chart.template.functions import functions
from marfetch.chart.template.goformat import Formatter
from marfetch.chart.template.marked import spans_of
from marfetch.chart.template.matching import matches
from marfetch.chart.template.syntax import TemplateError
from marfetch.chart.tree import enabled_chart, read_chart


def evaluated(text: str, dot: Any = None, steps: int = 100_000) -> str:
    meter = Meter(steps)
    formatter = Formatter(meter)
    evaluator = Evaluator(functions(meter, formatter), formatter.text, meter)
    evaluator.add("main", text, "templates/a.yaml")
    return str(evaluator.run("main", {} if dot is None else dot))


EXPRESSIONS = {
    'printf "%s-%d|%5s|%-4s|%05d|%q|%v|%t|%x|%%" "a" 3 "b" "c" 42 "d\\n" 1.5 true 255': 'a-3|    b|c   |00042|"d\\n"|1.5|true|ff|%',
    'print "a" 1 2 "b" nil': "a1 2b<nil>",
    'list 1 2.5 true nil "x" (dict "k" 1)': "[1 2.5 true <nil> x map[k:1]]",
    'dict "b" (list 1 "2") "a" (dict) "c" nil | toYaml': 'a: {}\nb:\n- 1\n- "2"\nc: null',
    'dict "b" (list 1 "2") "a" "<x>" | toJson': '{"a":"<x>","b":[1,"2"]}',
    'toYaml (list "yes" "1.0" "a: b" "" "x#y" "null" "plain/text:1")': '- "yes"\n- "1.0"\n- \'a: b\'\n- ""\n- x#y\n- "null"\n- plain/text:1',
    'toYaml (list "- it\'s" "a\\tb" "y" "007" "1:30" "2024-01-01" "{{ \\"x\\" }}")': "- '- it''s'\n"
    '- "a\\tb"\n- "y"\n- "007"\n- "1:30"\n- "2024-01-01"\n- \'{{ "x" }}\'',
    'toYaml (dict "a" (list "x\\n  y" "z\\n") "b" (dict "c" "p\\n\\nq\\n\\n" "d" " e\\nf"))': "a:\n- |-\n  x\n    y\n- |\n  z\n"
    "b:\n  c: |+\n    p\n\n    q\n\n  d: |2-\n     e\n    f",
    'toYaml (fromYaml "{a: 20240101, b: 1.50, c: 1234567.5}")': "a: 20240101\nb: 1.5\nc: 1.2345675e+06",
    'toJson (fromYaml "{a: 20240101, c: 1234567.5}")': '{"a":20240101,"c":1234567.5}',
    'print (fromYaml "a: 20240101").a': "2.0240101e+07",
    'kindOf (fromYaml "a: 1").a': "float64",
    'printf "%d %d" 8 8.0': "8 %!d(float64=8)",
    '"aB" | swapcase | clean': "Ab",
    '"a-b-c" | splitList "-" | last | upper | quote': '"C"',
    '(split "/" "a/b/c")._1': "b",
    'trimSuffix "-x" "a-x" | trimPrefix "a" | default "none"': "none",
    'trunc 3 "abcdef"': "abc",
    'trunc -3 "abcdef"': "def",
    'replace "." "-" "1.2.3" | nindent 2': "\n  1-2-3",
    'ternary "y" "n" (and true (or false (not false)))': "y",
    "eq 1 2 3 1": "true",
    'and (ne "a" "b") (lt 1 2) (ge 2 2) (hasKey (dict "a" 1) "a")': "true",
    'coalesce "" nil 0 "x"': "x",
    'without (list "a" "b" "c") "b" | join ","': "a,c",
    "concat (list 1) (list 2 3) | uniq | len": "3",
    'semverCompare ">=1.19-0 <2" "v1.22.4-gke.1"': "true",
    '(semver "v1.22.4").Minor': "22",
    'regexMatch "^v?[0-9]+\\\\.[0-9]+$" "v1.2"': "true",
    'regexReplaceAll "(a)(b*)" "xabbay" "${2}-"': "xbb--y",
    'regexFindAll "[0-9]+" "a1b22c333" 2 | join ","': "1,22",
    '"dGV4dA==" | b64dec': "text",
    '"text" | sha256sum | trunc 8': "982d9e3e",
    'int "12" | add 3 | mul 2': "30",
    "div 7 2": "3",
    "until 3": "[0 1 2]",
    'index (dict "a" (list 1 2)) "a" 1': "2",
    'dig "a" "b" "none" (dict "a" (dict "c" 1))': "none",
    'merge (dict "a" 1) (dict "a" 2 "b" 3) | toJson': '{"a":1,"b":3}',
    'mergeOverwrite (dict "a" 1 "c" (dict "x" 1)) (dict "a" 2 "c" (dict "y" 2)) | toJson': '{"a":2,"c":{"x":1,"y":2}}',
    'pick (dict "a" 1 "b" 2) "a" | toJson': '{"a":1}',
    'omit (dict "a" 1 "b" 2) "a" | toJson': '{"b":2}',
    'fromYaml "a: [1, x]" | toJson': '{"a":[1,"x"]}',
    "kindOf (list)": "slice",
    'tpl "{{ .a }}!" (dict "a" 1)': "1!",
    'required "message" "x"': "x",
    '"a b" | title | nospace | camelcase': "AB",
    "0x10": "16",
    "1e3": "1000",
    "float64 1234567": "1.234567e+06",
    "'a'": "97",
    '`raw "text"`': 'raw "text"',
}


@pytest.mark.parametrize(("expression", "result"), EXPRESSIONS.items())
def test_functions(expression: str, result: str) -> None:
    assert evaluated("{{ " + expression + " }}") == result


@pytest.mark.parametrize(
    ("text", "result"),
    {
        "a {{- /* c */ -}} b": "ab",
        "{{- 1 -}}\n x": "1x",
        "{{ if false }}a{{ else if true }}b{{ else }}c{{ end }}": "b",
        "{{ with nil }}a{{ else with 2 }}{{ . }}{{ end }}": "2",
        "{{ range $i, $e := list 1 2 3 }}{{ if eq $e 2 }}{{ continue }}{{ end }}{{ $i }}{{ $e }}{{ end }}": "0123",
        "{{ range list }}a{{ else }}b{{ end }}": "b",
        "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}": "2",
        "{{ range 3 }}{{ . }}{{ end }}": "012",
        '{{ define "f" }}[{{ . }}]{{ end }}{{ template "f" 1 }}{{ include "f" 2 }}{{ block "g" 3 }}({{ . }}){{ end }}': "[1][2](3)",
        '{{ $ }}{{ (dict "a" (dict "b" 1)).a.b }}': "map[]1",
        "{{ .missing.field }}": "",
    }.items(),
)
def test_control_structures(text: str, result: str) -> None:
    assert evaluated(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "{{ nosuch 1 }}",
        "{{ if true }}",
        "{{ end }}",
        "{{ ( }}",
        "{{ $x }}",
        '{{ template "none" }}',
        "{{ break }}",
        '{{ "a" | repeat 100000000 }}',
        '{{ printf "%99999999d" 1 }}',
        '{{ indent 100000000 "a" }}',
        '{{ define "f" }}{{ include "f" . }}{{ end }}{{ include "f" . }}',
        "{{ range until 100000000 }}{{ end }}",
        "{{ range 100000000 }}{{ end }}",
        '{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ toYaml $d }}',
        "{{ $d := list 1 }}{{ range until 40 }}{{ $d = list $d $d }}{{ end }}{{ toJson $d }}",
        '{{ $s := "ab" }}{{ range until 60 }}{{ $s = print $s $s }}{{ end }}',
        "{{ $l := list 1 }}{{ range until 60 }}{{ $l = concat $l $l }}{{ end }}",
        '{{ $s := repeat 5000 "a" }}{{ range until 1000 }}{{ $_ := regexMatch "(a+)+b" $s }}{{ end }}',
        "{{" + "(" * 500 + "1" + ")" * 500 + "}}",
        "{{ if true }}" * 500 + "{{ end }}" * 500,
    ],
)
def test_what_is_wrong_or_endless_ends_with_a_reason(text: str) -> None:
    with pytest.raises(TemplateError):
        evaluated(text)


def test_a_template_that_cannot_be_evaluated_is_told_and_searched_by_its_lines_and_values() -> None:
    files = {
        "Chart.yaml": b"name: a\n",
        "values.yaml": b"image: {repository: a/used, tag: 1}\nother: {image: 'a/unused:1'}\n",
        "templates/a.yaml": b"image: a/fixed:1\nx: {{ nosuch .Values.image.tag }}\n",
        "templates/b.yaml": b"image: {{ .Chart.Name }}/{{ .Release.Name }}:1\n",
    }
    found = find_images(files)
    assert found.images == ("a/fixed:1", "a/release-name:1", "a/used:1")
    assert "`nosuch` is not supported" in found.guessed["templates/a.yaml"]


def test_text_leads_back_to_its_values() -> None:
    files = {"Chart.yaml": b"name: a\n", "values.yaml": b"r: host\nm: {x: path}\n"}
    files["templates/a.yaml"] = b'v: {{ printf "%s/%s" .Values.r (trimSuffix "h" .Values.m.x) | quote | nindent 2 }}'
    ((_, output),) = render(enabled_chart(read_chart(files, {}))).outputs
    assert [(str(output[one.start : one.end]), one.origin) for one in spans_of(output)] == [
        ("host", "values.yaml:r"),
        ("pat", "values.yaml:m.x"),
    ]


@pytest.mark.parametrize(("aliases", "values", "reason"), [(600, 1, "more than 500 charts"), (100, 20_000, "more than 1000000 values")])
def test_charts_and_values_are_limited(aliases: int, values: int, reason: str) -> None:
    dependencies = "".join(f"- {{name: s, alias: s{number}}}\n" for number in range(aliases))
    files = {"Chart.yaml": f"name: a\ndependencies:\n{dependencies}".encode(), "charts/s/Chart.yaml": b"name: s\n"}
    files["charts/s/values.yaml"] = b"a: [" + b"1," * values + b"1]\n"
    assert reason in find_images(files).unread["values.yaml"]


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("(a|ab)(c|bcd)", "abcd", [(0, 4), (0, 1), (1, 4)]),
        ("a*?b", "xaab", [(1, 4)]),
        (r"(?i)\bFOO\b", "a foo", [(2, 5)]),
        ("(x)?y", "y", [(0, 1), (0, 0)]),
        ("[[:digit:]]{2,3}", "a1234", [(1, 4)]),
    ],
)
def test_expressions_match_as_in_go(pattern: str, text: str, found: list[tuple[int, int]]) -> None:
    assert next(matches(pattern, text)) == found


@pytest.mark.parametrize("pattern", ["a{1000}{1000}", "(", ")", "a" * 600, r"\pL", "*", "(?=a)", r"(a)\1"])
def test_expressions_that_are_refused(pattern: str) -> None:
    with pytest.raises(TemplateError):
        list(matches(pattern, "a"))
