"""The parser of SETTINGS.md: Markdown tables in, a Catalogue or every mistake out."""
