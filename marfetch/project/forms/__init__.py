"""Parsers for the project files of other tools. They find references to artifacts."""
