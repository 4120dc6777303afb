"""Makes the parts of the documentation that can be made from the code, and says with `--check` which of them are out of date.

- `reference/cli.md`: the help of every command
- `reference/errors.md`, `reference/exit-codes.md`: the tables of `marfetch/errors.py`
- `reference/kinds.md`: the table of `marfetch/artifact/kinds.py`
- `reference/json.md`: what commands really print, asked of the embedded registry
- `reference/endpoints.md`: what `marfetch endpoints` prints
- `reliability.md`: the matrix of faults, out of the marks of the tests that prove it
- every block of `console` in the pages of `RUN`: the lines that begin with `$` are run, in order, and what they print is written below them
- `reference/library.md`: every program in it is run, and what it prints is written below it
- `demo.svg`: what `marfetch demo` prints, as a picture
- `reference/marfetch.schema.json`: the JSON Schema of a wanted file, of the table in `marfetch/project/wanted.py`
- `../marfetch/completion/commands.json`: commands and options as the parser knows them, for completion, which has no time to load the parser
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import typer.main
from rich.console import Console
from rich.text import Text

from marfetch.artifact.kinds import KINDS
from marfetch.cli import COMMANDS, app
from marfetch.codes import CODES
from marfetch.demo.embedded import Embedded, embedded
from marfetch.demo.tour import CHART, MODULE
from marfetch.endpoint import DATA_ENVIRONMENT, ENVIRONMENT, OFFICIAL
from marfetch.errors import Error
from marfetch.project.wanted import json_schema
from tests.world.rows import CLASSES, ROWS, Proof, proofs

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RUN = (
    "../README.md",
    "tutorial.md",
    *(f"how-to/{name}.md" for name in ("artifacts", "projects", "search", "verify", "air-gap", "firewall")),
)
COLUMNS = 100
MADE = "<!-- Made by docs/generate.py; `make docs` writes it anew. -->\n\n"
SIGNED = "azurelinux/3.0/image/minimal-os:latest"
SHOWN_HOST, SHOWN_DATA = "127.0.0.1:5000", "127.0.0.1:5001"


# -- running commands


@dataclass
class Shell:
    """Runs commands in a directory of its own against an embedded registry, and shows what they print as it would be elsewhere."""

    place: Path
    running: Embedded

    def run(self, line: str) -> tuple[int, str]:
        """Exit code, and stdout and stderr in one."""
        binary = self.place.parent / "bin"
        environment = {
            "PATH": f"{binary}:/usr/bin:/bin",
            "HOME": str(self.place),
            "COLUMNS": str(COLUMNS),
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            ENVIRONMENT: self.running.endpoint,
            DATA_ENVIRONMENT: self.running.data,
        }
        if not binary.exists():
            binary.mkdir()
            (binary / "marfetch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m marfetch "$@"\n')
            (binary / "marfetch").chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, self._shown(done.stdout)

    def _shown(self, text: str) -> str:
        text = text.replace(str(self.place), "~").replace(str(self.running.host), SHOWN_HOST).replace(self.running.data, SHOWN_DATA)
        for real, shown in ((str(self.running.host), SHOWN_HOST), (self.running.data, SHOWN_DATA)):
            text = text.replace(f'"port": {real.rpartition(":")[2]}', f'"port": {shown.rpartition(":")[2]}')
        # A notice about this very endpoint, the same at each command.
        return re.sub(r"^warning: `http://127[^\n]*\n", "", text, flags=re.MULTILINE)


@contextmanager
def shell() -> Iterator[Shell]:
    """A shell whose home is empty."""
    with tempfile.TemporaryDirectory() as directory, embedded(Path(directory) / "registry") as running:
        place = Path(directory) / "home"
        place.mkdir()
        yield Shell(place, running)


# -- pages


def cli() -> str:
    """The help of every command."""
    pages = ["# Commands\n\nOptions stand after the command; `-h` or `--help` shows this at any place.\n"]
    environment = os.environ | {"COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT)}
    for words in [
        [],
        *([name] for name in COMMANDS),
        *(["cache", name] for name in ("info", "verify", "prune", "clear")),
        *(["bundle", name] for name in ("create", "inspect", "verify", "diff", "load")),
    ]:
        line = [sys.executable, "-m", "marfetch", *words, "--help"]
        text = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
        title = " ".join(["marfetch", *words])
        pages.append(f"## `{title}`\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(pages)


def errors() -> str:
    """Every error code."""
    lines = [
        "# Errors",
        "",
        "Each failure has a stable code (`error.code` in the JSON), a message that names the thing and the rule, and a hint. A failed answer of",
        "MAR also has its `X-Msedge-Ref`, the id that Microsoft's support asks for. The class is that of `marfetch.errors`.",
    ]
    for kind in _tree():
        codes = {name: code for name, code in CODES.items() if code.kind == kind.__name__}
        if codes:
            lines += [
                "",
                f"## Exit code {kind.exit_code}: `{kind.__name__}`",
                "",
                f"{_first(kind)}",
                "",
                "| code | means | do |",
                "|---|---|---|",
            ]
            lines += [f"| `{name}` | {_cell(code.means)} | {_cell(code.do)} |" for name, code in codes.items()]
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """Every exit code."""
    meanings = {
        0: "done",
        1: "ran, and the answer is no",
        2: "usage or input",
        3: "not found",
        4: "refused by policy",
        5: "integrity: bytes are not what their descriptor says, or an answer is malformed",
        6: "signature or provenance",
        7: "the registry failed or cannot be reached, also when it says to come back later (429)",
        8: "the lock does not match",
        9: "a local file cannot be written or read",
        130: "interrupted (Ctrl-C)",
        143: "ended by SIGTERM or SIGHUP",
    }
    owners: dict[int, list[str]] = {}
    for kind in _tree():
        owners.setdefault(kind.exit_code, []).append(f"`{kind.__name__}`")
    lines = [
        "# Exit codes",
        "",
        "With several references, the exit code is that of the first failure in the order of the arguments; all of them are tried.",
        "",
        "| code | means | class of `marfetch.errors` |",
        "|---|---|---|",
    ]
    lines += [f"| {code} | {means} | {', '.join(owners.get(code, []))} |" for code, means in meanings.items()]
    return "\n".join(lines) + "\n"


def kinds() -> str:
    """The table of kinds."""
    lines = [
        "# Kinds of artifacts",
        "",
        "A kind is told by what the manifest holds, never by the path of the repository or the position of a layer. `--kind` takes these words",
        "(`sbom` means both sorts). Other layers come with `--media-type GLOB` or `--all-layers`.",
        "",
        "| kind | is | told by | payload |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        told = ", ".join(f"`{one}`" for one in dict.fromkeys((*kind.types, *kind.layers))) or "its layers"
        payload = ", ".join(f"`{one}`" for one in kind.payload)
        lines.append(f"| `{kind.name}` | {kind.title} | {told} | {payload} |")
    return "\n".join(lines) + "\n"


def endpoints() -> str:
    """What a firewall must let through."""
    with shell() as here:
        _, text = here.run("marfetch endpoints")
        _, document = here.run("marfetch endpoints --json")
    shown = json.dumps(json.loads(document), indent=2)
    return f"# Endpoints\n\nWhat `marfetch endpoints` prints.\n\n```text\n{text}```\n\nAnd with `--json`:\n\n```json\n{shown}\n```\n"


def reliability() -> str:
    """The matrix of faults."""
    proven: dict[str, list[Proof]] = {}
    for proof in proofs():
        proven.setdefault(proof.id, []).append(proof)
    lines = [
        "# Reliability",
        "",
        f"What goes wrong, in {len(ROWS)} rows, and what marfetch does then. Each is produced for real (a registry, a proxy, a disk or a signal that",
        "does it) and run through the command line by the test that is named, in `tests/faults/` or `tests/crash/`. After each command of the former it is looked",
        "through what it has left: no file under its final name but a right one, nothing left beside it, what was there before as it was, each",
        "blob of the cache what its name says, no secret and no control character in what was printed or stored, no connection to a host that is",
        "not allowed and no name resolved, and less than 300 MiB of memory. Exit codes are those of [the reference](reference/exit-codes.md).",
    ]
    for letter, title in CLASSES.items():
        lines += ["", f"## {title}", "", "| id | what happens | what marfetch does | exit code | test |", "|---|---|---|---|---|"]
        for name in ROWS:
            if name.startswith(letter):
                lines += [_proof(proof) for proof in proven.get(name, [])]
    return "\n".join(lines) + "\n"


def _proof(proof: Proof) -> str:
    codes = "" if proof.code is None else ", ".join(map(str, [proof.code] if isinstance(proof.code, int) else proof.code))
    module = proof.module.removesuffix(".py")
    return f"| {proof.id} | {_cell(proof.happens)} | {_cell(proof.does)} | {codes} | `{module}`: `{proof.test}` |"


POLICY = (
    '{"version": "1.0", "trustPolicies": [{"name": "all", "registryScopes": ["*"], "signatureVerification": {"level": "strict"},'
    ' "trustStores": ["ca:microsoft"], "trustedIdentities": ["*"]}]}'
)
WANTED = f"printf 'schema: 1\\nartifacts:\\n  - {{reference: {CHART}, version: ~1.7}}\\n' > marfetch.yaml"
PROJECT = (
    f"printf 'schema: 1\\nartifacts:\\n  - {{reference: {CHART}, version: ~1.7}}\\n' > marfetch.yaml"
    " && marfetch lock --quiet > found.txt 2>&1 && marfetch bundle create -o charts.tar --quiet >> found.txt 2>&1"
)
"""What a bundle is made of, before it is asked about."""

EXAMPLES = (
    ("pull", f"marfetch pull {CHART} --version '^1.7' --json", "`status` is `fetched` or `unchanged`; `size` is in bytes."),
    ("a failed pull", f"marfetch pull {CHART}:9.9.9 {MODULE}:0.14.0 --json", "All references are tried; `error` is the first failure."),
    (
        "resolve",
        f"marfetch resolve {CHART} --version '~1.7' --json",
        "`version` is null where a tag or a digest was named that is no version.",
    ),
    (
        "versions",
        f"marfetch versions {MODULE} --json",
        "`other` holds the tags that are no versions; `aliases` other tags of the same version.",
    ),
    (
        "versions --details",
        f"marfetch versions {MODULE} --details --json",
        "Each version with what its manifest says; `error` where it has none.",
    ),
    (
        "search",
        "marfetch search ingress --kind chart --json",
        (
            "`kind`, `newest` and what follows are null where nobody looked: without `--kind`, unless the cache knows them. `match` is `all`, `glob`,"
            " `text` or `near`; `listed` is false for what the catalog lacks, `ghosts` are in the catalog without tags, ages are in seconds."
        ),
    ),
    (
        "plan",
        f"marfetch plan {MODULE}:0.14.0 --json",
        "Requests and bytes that are still needed; `sure` is false for a data host of several, of which only the redirect tells which it is.",
    ),
    (
        "inspect",
        f"marfetch inspect {CHART}:1.7.12 --json",
        "`name` is that of the file that `pull` makes of a layer; null where it makes none.",
    ),
    ("referrers", f"marfetch referrers {SIGNED} --json", "`referrers` within an entry is what refers to it in turn."),
    (
        "a failed verification",
        f"echo '{POLICY}' > policy.json; marfetch verify {SIGNED} --trust-policy policy.json --json",
        "`verdict` is `verified`, `skipped` or `failed`; `error.code` is the code of the signature that came furthest. The look-alike is signed by nobody.",
    ),
    (
        "doctor",
        "marfetch doctor --json",
        (
            "Shortened here. `verdict` is that of the worst finding, `status` is `ok`, `warning` or `fault`; each id is there once at most."
            " `references` are the `X-Msedge-Ref` of failed answers. A fault is exit code 1, and `ok` is true: the examination was done."
        ),
    ),
    (
        "lock",
        f"{WANTED} && marfetch lock --json",
        "`outcome` is `added`, `kept`, `upgraded` or `changed`; `previous` what was locked before.",
    ),
    (
        "sync",
        "marfetch sync --json",
        "`outcome` is `fetched`, `unchanged`, `replaced`, `drifted` or `failed` (then with `error`); `--dry-run` says `would-fetch`, `would-replace`.",
    ),
    (
        "outdated",
        "marfetch outdated --json",
        "`inRange` is what `lock --upgrade` would take, `newest` what is newer beyond the range; exit code 1.",
    ),
    (
        "diff",
        f"marfetch diff {CHART}:1.7.9 {CHART}:1.7.12 --json",
        "`change` is `added`, `removed` or `changed`; `diff` stands where texts differ.",
    ),
    ("cache info", "marfetch cache info --json", "Sizes are in bytes."),
    ("cache verify", "marfetch cache verify --json", ""),
    ("cache prune", "marfetch cache prune --json", ""),
    ("cache clear", "marfetch cache clear --json", ""),
    (
        "bundle inspect",
        f"{PROJECT} && marfetch bundle inspect charts.tar --json",
        "`lines`: tool → what to run, one after the other; none where a delta leaves content out, whose bytes are `omitted`.",
    ),
    (
        "bundle verify",
        "marfetch bundle verify charts.tar --json",
        "Entries of `missing`, `extra` and `wrong` have `name` and `reason`. Where there is a trust policy, `signatures` has one for each artifact: `reference`, `verdict` (`verified`, `skipped`, `unsigned`, `unchecked`, `failed`), `subject`, `code`, `message`.",
    ),
    ("bundle diff", "marfetch bundle diff charts.tar charts.tar --json", "`change` is `added`, `removed`, `changed` or `referrers`."),
    (
        "bundle load",
        "marfetch bundle load charts.tar --to ./mirror --json",
        "`outcome` is `pushed`, `unchanged` or `replaced`; `size` is what was sent, in bytes.",
    ),
    ("version", "marfetch version --json", ""),
    (
        "an error",
        "marfetch resolve aks/Foo --json",
        "The keys beside `code`, `message`, `hint` and `exitCode` are the facts of the single case.",
    ),
)


def json_shapes() -> str:
    """What commands print with `--json`."""
    lines = [
        "# JSON output",
        "",
        "`--json` prints exactly one object on stdout, also on failure; the exit code still tells. Keys may come, none goes: `schema` is raised",
        "before that changes. These are the answers of the embedded registry.",
    ]
    with shell() as here:
        for title, line, remark in EXAMPLES:
            text = "\n".join(row for row in here.run(line)[1].splitlines() if row.startswith("{"))
            lines += ["", f"## {title}", "", *([remark, ""] if remark else []), f"`{line}`", ""]
            document = json.loads(text)
            if title == "doctor":
                _settle(document["data"])
            lines += ["```json", json.dumps(document, indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


def _settle(data: dict[str, Any]) -> None:
    """Take out of an examination what depends on the machine and the moment."""
    data |= {"time": "2026-11-24T12:00:00Z", "seconds": 0.1}
    data["findings"] = [one for one in data["findings"] if one["id"] in ("endpoint", "registry", "redirect", "range")]


def walked(page: str) -> str:
    """A page whose commands have been run: what they print stands below each."""
    with shell() as here:

        def block(match: re.Match[str]) -> str:
            lines = []
            for line in match[1].splitlines():
                if line.startswith("$ "):
                    _, text = here.run(line[2:])
                    lines += [line, *text.rstrip("\n").splitlines()]
            return "```console\n" + "\n".join(lines) + "\n```\n"

        return re.sub(r"```console\n(.*?)```\n", block, (DOCS / page).read_text(), flags=re.DOTALL)


def programs(page: str) -> str:
    """A page whose programs have been run: the block of text behind each is what it prints."""
    with shell() as here:

        def block(match: re.Match[str]) -> str:
            (here.place / "program.py").write_text(match[1])
            code, text = here.run(f"{sys.executable} -W error program.py")
            assert code == 0, text
            return f"```python\n{match[1]}```\n\n```text\n{text}```\n"

        return re.sub(r"```python\n(.*?)```\n\n```text\n.*?```\n", block, (DOCS / page).read_text(), flags=re.DOTALL)


SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="What make demo prints">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect width="{width}" height="{height}" rx="6" fill="#1c1e26"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def picture() -> str:
    """What `marfetch demo` prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "marfetch", "demo"]
    text = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    # The ports are free ones, others at each run.
    ports = dict.fromkeys(re.findall(r"127\.0\.0\.1:\d+", text))
    for number, port in enumerate(ports):
        text = text.replace(port, f"127.0.0.1:{5000 + number}")
    console = Console(record=True, width=120, file=StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print("$ make demo", style="bold green")
    for row in text.splitlines():
        style = "bold green" if row.startswith("$ ") else "yellow" if "error:" in row else "dim" if row.startswith("  (") else ""
        console.print(Text(row, style=style), overflow="fold", no_wrap=False)
    return console.export_svg(title="make demo", code_format=SVG, unique_id="demo")


def commands() -> str:
    """The commands, their options and what these take, for `marfetch/completion/complete.py`."""
    values: dict[str, list[tuple[str, str]]] = {
        "KIND": sorted([*((kind.name, kind.title) for kind in KINDS), ("sbom", "SBOM of either sort")]),
        "NAME|URL": [(name, endpoint.registry.name) for name, endpoint in OFFICIAL.items()],
        "ACTION": [("enforce", ""), ("log", ""), ("skip", "")],
        "OS/ARCH": [("linux/amd64", ""), ("linux/arm64", ""), ("windows/amd64", "")],
    }
    root = _command(typer.main.get_command(app()), values)
    # The front door answers it before there is a parser.
    root["options"].insert(0, _option(["--version"], "Print name and version."))
    return _laid_out({"schema": 1, **root, "values": values}) + "\n"


def schema() -> str:
    """The form of a wanted file, for editors."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _command(command: Any, values: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """What the parser knows of a command and of those below it; the choices of its parameters are added to `values`."""
    options, arguments = [], []
    for one in command.params:
        takes = None if getattr(one, "is_flag", False) else str(one.metavar or one.type.name.upper()).removesuffix("...")
        if takes and one.param_type_name == "argument":
            takes = takes.strip("[]")  # one that can be left out
        choices = getattr(one.type, "choices", None)
        if takes and choices:
            values[takes] = [(str(getattr(choice, "value", choice)), "") for choice in choices]
        if one.param_type_name == "argument":
            arguments.append({"takes": takes, "repeats": one.nargs == -1})
        elif not one.hidden:
            options.append(_option([*one.opts, *one.secondary_opts], one.help, takes=takes, repeats=bool(one.multiple)))
    options.append(_option(["--help", "-h"], "Show this message and exit."))
    made = {"help": _sentence(command.help), "options": options, "arguments": arguments}
    below = {name: _command(one, values) for name, one in getattr(command, "commands", {}).items() if not one.hidden}
    return made | ({"commands": below} if below else {})


def _option(names: list[str], text: str | None, *, takes: str | None = None, repeats: bool = False) -> dict[str, Any]:
    return {"names": names, "takes": takes, "repeats": repeats, "help": _sentence(text)}


def _sentence(text: str | None) -> str:
    """The first sentence, without its full stop."""
    return re.split(r"\.(?:\s|$)", " ".join((text or "").partition("\n\n")[0].split()), maxsplit=1)[0]


def _laid_out(value: Any, depth: int = 0) -> str:
    """JSON in which what fits into a line stands in one."""
    text = json.dumps(value)
    if len(text) <= 160 or not value:
        return text
    rows = [f"{json.dumps(name)}: {_laid_out(one, depth + 1)}" for name, one in value.items()] if isinstance(value, dict) else []
    rows = rows or [_laid_out(one, depth + 1) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(" " * (depth + 1) + row for row in rows) + "\n" + " " * depth + closing


def _tree() -> list[type[Error]]:
    def below(kind: type[Error]) -> Iterator[type[Error]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    return sorted(below(Error), key=lambda kind: kind.exit_code)


def _first(kind: type[Error]) -> str:
    return re.sub(r" \(context.*?\)\.$", ".", (kind.__doc__ or "").strip().splitlines()[0])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# -- all of it


def pages() -> dict[str, Callable[[], str]]:
    """File below `docs/` → what makes its text."""
    made: dict[str, Callable[[], str]] = {
        "reference/cli.md": cli,
        "reference/errors.md": errors,
        "reference/exit-codes.md": exit_codes,
        "reference/kinds.md": kinds,
        "reference/endpoints.md": endpoints,
        "reference/json.md": json_shapes,
        "reliability.md": reliability,
    }
    made = {name: partial(_marked, make) for name, make in made.items()}
    return (
        made
        | {name: partial(walked, name) for name in RUN}
        | {"reference/library.md": partial(programs, "reference/library.md")}
        | {"demo.svg": picture, "reference/marfetch.schema.json": schema, "../marfetch/completion/commands.json": commands}
    )


def _marked(make: Callable[[], str]) -> str:
    return MADE + make()


def outdated(*, write: bool) -> list[str]:
    """The files that are not what the code makes now; written anew on demand."""
    found = []
    for name, make in pages().items():
        path, text = DOCS / name, make()
        if not path.exists() or path.read_text() != text:
            found.append(name)
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return found


def main() -> int:
    """Write, or check."""
    check = "--check" in sys.argv[1:]
    found = outdated(write=not check)
    for name in found:
        print(f"{(DOCS / name).resolve().relative_to(ROOT.resolve())} " + ("is out of date: run `make docs`" if check else "written"))
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
