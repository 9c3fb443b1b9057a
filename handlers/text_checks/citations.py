"""Citations and DOIs in an answer, held against the given sources; offline.

Read are `[@key]`, `\\cite{key}`, `[key]`, `[3]`, `(Doe & Roe, 2020)` and `Doe et al. (2020)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from handlers.text_checks.bibliography import Source

YEAR = r"(?:1[5-9]|20)\d\d"
# All parts have a bounded length: what is read was written by a model, and may be anything.
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


def find_citations(text: str, sources: Sequence[Source]) -> list[Citation]:
    """Each cited key once, in order, and whether it is a source; what names none is given as written."""
    found = sorted([*_keyed(text, sources), *_bracketed(text, sources), *_named(text, sources)])
    return list(dict.fromkeys((key, supported) for _, key, supported in found))


def written_dois(text: str) -> list[str]:
    """What stands in `text` where a DOI would, right or wrong, each once."""
    found = (_trimmed(match[1] or match[2]) for match in WRITTEN_DOI.finditer(text))
    return list(dict.fromkeys(doi for doi in found if not doi.startswith("http")))


def is_doi(text: str) -> bool:
    """Whether `text` has the form of a DOI; nobody is asked whether it is one."""
    return DOI.fullmatch(text) is not None


def _trimmed(doi: str) -> str:
    # A closing bracket is the sentence's unless it was opened in the DOI.
    return doi.rstrip(".]>*" if doi.count("(") >= doi.count(")") else ".)]>*")


def _keyed(text: str, sources: Sequence[Source]) -> Iterator[tuple[int, str, bool]]:
    known = {source.key for source in sources}
    for match in KEYED.finditer(text):
        for key in (match[1] or match[2]).split(","):
            yield match.start(), key.strip(), key.strip() in known


def _bracketed(text: str, sources: Sequence[Source]) -> Iterator[tuple[int, str, bool]]:
    known = {source.key for source in sources}
    seen = 0  # a bit for each number: seven characters name 999 of them
    for match in BRACKETED.finditer(text):
        inner = match[1]
        if NUMBERS.fullmatch(inner):
            new, seen = _expanded(inner) & ~seen, seen | _expanded(inner)
            yield from ((match.start(), *_numbered(number, sources)) for number in _ones(new))
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


def _ones(bits: int) -> Iterator[int]:
    return (at for at, bit in enumerate(reversed(f"{bits:b}")) if bit == "1") if bits else iter(())


def _numbered(number: int, sources: Sequence[Source]) -> Citation:
    there = 1 <= number <= len(sources)
    return (sources[number - 1].key if there else f"[{number}]"), there


def _named(text: str, sources: Sequence[Source]) -> Iterator[tuple[int, str, bool]]:
    for match in re.finditer(r"\(([^()\n]{6,300})\)", text):
        for part in match[1].split(";"):
            if named := IN_BRACKETS.fullmatch(part.strip()):
                yield from _by_name(match.start(), named, part.strip(), sources)
    for named in IN_TEXT.finditer(text):
        yield from _by_name(named.start(), named, named[0], sources)


def _by_name(
    at: int, named: re.Match[str], written: str, sources: Sequence[Source]
) -> Iterator[tuple[int, str, bool]]:
    name, year = named[1].lower(), named[2]
    if name.split()[0] in NOT_NAMES:
        return
    keys = [source.key for source in sources if source.year == year and name in source.families[:1]]
    yield at, (keys[0] if keys else written), bool(keys)
