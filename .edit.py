from pathlib import Path
p=Path("marfetch/project/forms/fields.py"); t=p.read_text()
t=t.replace('''            places = list(sources.registries.chart(shape.form, name, repository, option or version, values=_values(node)))
''','''            # Without a scheme, it may be a container image. Only Argo CD has no scheme for charts.
            is_certain = shape.form == "argo-cd" or "://" in f"{name.text} {repository.text}"
            more = {"values": _values(node), "is_certain": is_certain}
            places = list(sources.registries.chart(shape.form, name, repository, option or version, **more))
''')
p.write_text(t)
p=Path("marfetch/project/forms/forms.py"); t=p.read_text()
t=t.replace('''            yield LeftOut(one.line, reason, str(one.reference))
''','''            yield LeftOut(one.line, reason, str(one.reference) if one.is_certain or "url" in rows[one.line - part.line] else None)
''')
p.write_text(t)
p=Path("marfetch/bump/bump.py"); t=p.read_text()
a=t.index("def _endpoint("); b=t.index("def _of_repository(")
t=t[:a]+t[b:]
t=t.replace("_endpoint(one.place)",'one.place.context.get("endpoint")')
p.write_text(t)
p=Path("marfetch/project/adopt.py"); t=p.read_text()
a=t.index("def nearest_aliases("); b=t.index("def _key(repository")
t=t[:a]+'''class Aliases:
    """Looks up the aliases of the nearest `bicepconfig.json`, which is the only one that Bicep reads. Each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, str]] = {}

    def of(self, path: Path) -> dict[str, str]:
        """Return the aliases for a file; empty if it is no Bicep file, or if the configuration cannot be read."""
        return self._in(path.resolve().parent) if path.suffix in (".bicep", ".bicepparam") else {}

    def _in(self, directory: Path) -> dict[str, str]:
        if directory not in self._known:
            try:
                with (directory / CONFIGURATION).open("rb") as file:
                    self._known[directory] = aliases(file.read(MAX_SIZE).decode("utf-8-sig", "replace"))
            except OSError:
                self._known[directory] = self._in(directory.parent) if directory != directory.parent else {}
        return self._known[directory]


'''+t[b:]
t=t.replace("context = Context(self._check, others, self._registries, nearest_aliases(path))","context = Context(self._check, others, self._registries, known.of(path))").replace('''        others = Sources([one for found in parts''','''        known = Aliases()
        others = Sources([one for found in parts''').replace("from contextlib import suppress\n","")
p.write_text(t)
p=Path("marfetch/bump/survey.py"); t=p.read_text()
t=t.replace("import MAX_SIZE, nearest_aliases","import MAX_SIZE, Aliases").replace("nearest_aliases(file.real)","known.of(file.real)").replace('''    places: list[FoundPlace] = []
    unread''','''    known = Aliases()
    places: list[FoundPlace] = []
    unread''')
p.write_text(t)
