"""Results for people and programs: tables, lines, Markdown, JSON."""
