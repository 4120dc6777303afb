"""Print results for people and programs: lines, tables, Markdown and JSON."""
