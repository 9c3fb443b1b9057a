"""Finds the final answer in a model's text by the marks around it (a box, "Answer:", an equals sign).

Regular expressions over the end of the text; nothing is parsed or evaluated here.
"""

from __future__ import annotations

import re

TAIL_CHARS = 6_000
MAX_ANSWER_CHARS = 500
_MARK = re.compile(
    r"(?:final answer|correct answer|the answer|the solutions?|the result|answer|solutions?)\**\s*"
    r"(?:is|are|:|=|\s)+\s*\**\s*|####\s*",
    re.IGNORECASE,
)
_OPENS = re.compile(r"\$\$?|\\[(\[]")
_CLOSES = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_LEAD = re.compile(
    r"^(?:therefore|thus|hence|so|then|finally|and|that|we (?:get|have|find)|(?:it )?(?:is|equals)|equal to|"
    r"approximately|about|roughly|exactly|[:=,≈])+(?![A-Za-z])[\s,:]*",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"(?<=[\w)}\]%])\s{0,4}(?:\\(?:text|mathrm)\{[^{}]{0,60}\}|"
    r"\s(?:square|cubic)?\s{0,4}(?:cm|mm|km|m|ft|in|kg|g|mg|s|min|h|hr|mph|"
    r"km/h|m/s|L|ml|[A-Za-z]{3,40}(?:\s[A-Za-z]{3,40}){0,3}))(?:\s{0,4}(?:\^\s{0,4}\{?[23]\}?|[²³]))?$"
)
_NAMED = re.compile(
    r"^(?:\\?[A-Za-z]'{0,3}\s*\([a-z]\)|[A-Za-z]'{1,3}|dy/dx|\\frac\{d\w?\}\{d[a-z]\})\s*=\s*"
)
_AFTERWORD = re.compile(
    r"\s*\**(?:check|verif|let me know|i hope|note|you can|if you|feel free|to (?:check|verify)|substitut|"
    r"this confirms)",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"\((?:check|since|because)\b|is (?:the|our) (?:final )?(?:solution|answer)\b", re.IGNORECASE
)
_PERCENT = re.compile(r"(?<=\d)\s*(?:percent|per cent)\b", re.IGNORECASE)
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TWO_PARTS = re.compile(rf"({'|'.join(_TENS)})(?:[- ]({'|'.join(_ONES[1:10])}))?")
_NAME_AT_END = re.compile(r"(?<![\w)])[^\W\d]\w*+\s*+$")
_SEPARATOR = re.compile(r"[,;]|\band\b|\bor\b")
_KNOWN = re.compile(r"\d|pi|π|^\s*e\s*$")
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z])|\.\s*$|(?<=\w)[;?]\s*$")


def candidates(text: str) -> list[str]:
    """Texts that may be the final answer, the likeliest first; empty if there is none."""
    text = text[-TAIL_CHARS:].strip()
    prose: list[str] = []
    if marks := list(_MARK.finditer(text)):
        rest = text[marks[-1].end() :].strip()
        display = re.match(r"(\$\$.+?\$\$|\\\[.+?\\\])", rest, re.DOTALL)
        line = display[1] if display else rest.partition("\n")[0]
        prose += [line, *_right_hand_sides(line)]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _AFTERWORD.match(line)]
    if lines:
        last = re.split(r"(?<=[.!?])\s+(?=[A-Z])", _SENTENCE_END.sub("", lines[-1]).strip())[-1]
        spans = _spans(text)
        last_span = [spans[-1]] if spans and spans[-1] in text[-len(spans[-1]) - 60 :] else []
        prose += [last, *last_span, *_right_hand_sides(last)]
    # "It is 5!" is more likely an exclamation than a factorial.
    found = [clean(_boxed(text)), *(one for one in map(clean, prose) if not one.endswith("!"))]
    variants = [v for one in found for v in (one, _NAMED.sub("", one), _UNIT.sub("", one), _exact(one))]
    spelled = (_numeral(one.casefold()) or one for one in variants)
    return list(dict.fromkeys(v for v in spelled if 0 < len(v) <= MAX_ANSWER_CHARS))


def clean(text: str) -> str:
    """One answer without emphasis, delimiters, lead words, currency and full stop."""
    spans = _spans(text)
    text = _PERCENT.sub("%", ", ".join(spans) if spans else text)
    text = text.replace("**", "").replace("`", "").replace("\\$", "")
    text = _SENTENCE_END.split(text.strip(), maxsplit=1)[0]
    text = _TAIL.split(_LEAD.sub("", text.strip(" \t\n*")), maxsplit=1)[0].strip()
    return text.lstrip("$€£").rstrip("., ").strip()


def _exact(text: str) -> str:
    exact, sign, _ = text.replace("\\approx", "≈").rpartition("≈")
    return exact.rstrip() if sign and _KNOWN.search(exact) else text


def _spans(text: str) -> list[str]:
    """The non-empty texts between LaTeX delimiters, in order."""
    found, at = [], 0
    unclosed: set[str] = set()
    while opening := _OPENS.search(text, at):
        at = opening.start() + 1
        # `$$` may be one delimiter, or the empty start of a text after `$`: try both.
        for sign in dict.fromkeys((opening[0], opening[0].removesuffix("$") or "$")):
            begin = opening.start() + len(sign)
            end = -1 if sign in unclosed else text.find(_CLOSES[sign], begin + 1)
            if end >= 0:
                found.append(text[begin:end])
                at = end + len(sign)
                break
            unclosed.add(sign)  # search for it once, and not again from every opening
    return found


def _numeral(word: str) -> str:
    """The digits of a number below a hundred that is spelled out; an empty string for any other text."""
    if word in _ONES:
        return str(_ONES.index(word))
    found = _TWO_PARTS.fullmatch(word)
    return str(_TENS.index(found[1]) * 10 + 20 + _ONES.index(found[2] or "zero")) if found else ""


def _boxed(text: str) -> str:
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return ""
    begin = text.index("{", start) + 1
    depth = 1
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at]
    return ""


def _right_hand_sides(line: str) -> list[str]:
    after_words = re.split(r"\s(?:is|are|equals|gives|get|have)\s(?:therefore |then |thus )?", line)
    sides = [after_words[-1]] if len(after_words) > 1 else []
    # In x = 1, y = 2 neither value alone is the answer.
    if not _lists(line) and (line.count("=") == 1 or re.search(r"=[^=,]*$", line)):
        sides.append(line.rpartition("=")[2])
    return sides


def _lists(line: str) -> bool:
    """True if two names have values with a comma or an `and` between them: x = 1, y = 2."""
    sides = line.split("=")[:-1]
    names = [_NAME_AT_END.search(side) for side in sides]
    return any(
        before and name and _SEPARATOR.search(side, 0, name.start())
        for side, before, name in zip(sides[1:], names, names[1:], strict=False)
    )
