"""Makes texts on which a regular expression may be slow, from its own parse tree.

A text reaches each repeat by the shortest prefix, then has many copies of the repeated part, then a part that
fails. The prefix of a repeat and a match without its end are repeated too, because a search restarts there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from re import _constants as sre
from re import _parser as parser
from typing import Any

POOL = " \na1\t.A,-_\"'`(){}[]|#=:;/*\\$@\u00e9\u4e2d\u00a0!%&<>^~+?x0\r"
ENDS = ("\0", "\n\0", "")
GENERAL = (
    *" \n\ta1.`([{\"'\\$*_-#|,:=<>~!\u00e9\u4e2d", "\r\n", "a ", " a", "\n ", " \n", "1.", "1,", "a\n", ",a",
    "()", "[]", "[](", "{}", "``", "```\n", "\\(", "\\[", "$$", "\\frac{", "((", "**", "* ", "1) ", "a.b",
    '"a', "a b c ", "<a", "@a", "a: ", "|-",
)  # fmt: skip
MOST_UNITS = 6
LONG = 8
"""Repeats up to this number count as fixed text."""
REPEATS = {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}
CHARACTERS = {sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN}
CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_NOT_DIGIT: r"\D", sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S", sre.CATEGORY_WORD: r"\w", sre.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """A text of `before`, then as many copies of `unit` as the length needs, then `after`."""

    before: str
    unit: str
    after: str

    def __call__(self, length: int) -> str:
        """The text, of about `length` characters."""
        return self.before + self.unit * max(1, length // len(self.unit)) + self.after


def attacks(pattern: str, flags: int = 0) -> Iterator[Text]:
    """Texts to try with `pattern`, without duplicates."""
    tree = parser.parse(pattern, flags)
    # The pattern's own characters come first, because only they match its parts.
    pool = "".join(dict.fromkeys([*_literals(tree), *POOL]))
    maker = _Maker(pool)
    seen: set[Text] = set()
    for text in (*maker.texts(tree), *_general()):
        if text.unit and text not in seen:
            seen.add(text)
            yield text


def _general() -> Iterator[Text]:
    for unit in GENERAL:
        yield Text("", unit, "\0")


def _literals(tree: Iterable[Any]) -> Iterator[str]:
    for op, value in tree:
        if op in (sre.LITERAL, sre.NOT_LITERAL):
            yield chr(value)
        elif op is sre.RANGE:
            yield chr(value[0])
        else:
            yield from _literals(item for part in _parts(op, value) for item in part)


def _parts(op: Any, value: Any) -> list[Any]:
    """The sequences inside a node."""
    if op in REPEATS:
        return [value[2]]
    if op is sre.SUBPATTERN:
        return [value[3]]
    if op is sre.BRANCH:
        return list(value[1])
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return [value[1]]
    if op is sre.ATOMIC_GROUP:
        return [value]
    if op is sre.GROUPREF_EXISTS:
        return [part for part in value[1:] if part is not None]
    return [value] if op is sre.IN else []


class _Maker:
    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.groups: dict[int, str] = {}

    def texts(self, tree: Any) -> Iterator[Text]:
        for before, unit, follows in self.repeats(list(tree), ""):
            for end in ENDS:
                yield Text(before, unit, end)
            # Words of some length, so that a bounded repeat is full before the next begins.
            yield from (
                Text("", before + unit, "\0"),
                Text("", unit, "\0"),
                Text("", before + unit * 24, "\0"),
            )
            if before:
                yield from (Text("", before, "\0"), Text(before, unit + before, "\0"))
            if follows:
                yield from (Text(before, unit + follows, "\0"), Text("", before + unit + follows, "\0"))
        for path in self.paths(list(tree)):
            for stop in range(1, len(path) + 1):
                lead = self.shortest(path[:stop])
                yield from (Text("", lead, "\0"), Text(lead, lead[-1:], "\0"), Text("", lead + "\n", "\0"))

    def paths(self, tree: Sequence[Any]) -> Iterator[list[Any]]:
        """The sequence, once for each of its alternative branches."""
        if len(tree) == 1 and tree[0][0] in (sre.BRANCH, sre.SUBPATTERN):
            for part in _parts(*tree[0]):
                yield from self.paths(list(part))
        else:
            yield list(tree)

    def repeats(self, tree: Sequence[Any], before: str) -> Iterator[tuple[str, str, str]]:
        """For each long repeat the text before it, a text that it repeats, and a text that would follow."""
        for at, (op, value) in enumerate(tree):
            lead = before + self.shortest(tree[:at])
            leads = dict.fromkeys((lead, before + self.once(tree[:at])))
            follows = self.shortest(tree[at + 1 :])
            if op in REPEATS and value[1] > LONG:
                for one in leads:
                    for unit in islice(self.units(value[2], tree[at + 1 :]), MOST_UNITS):
                        yield one, unit, follows
            for part in _parts(op, value):
                if op is not sre.IN:
                    yield from self.repeats(list(part), lead)

    def units(self, body: Any, rest: Sequence[Any]) -> Iterator[str]:
        """Texts that `body` matches; texts that the following part matches too come first."""
        if len(body) == 1 and body[0][0] in CHARACTERS:
            fits = [char for char in self.pool if self.matches(body[0], char)]
            nexts = list(self.heads(rest))
            fits.sort(key=lambda char: not any(self.matches(item, char) for item in nexts))
            # Characters of different kinds find more than neighbours in one class.
            yield from dict.fromkeys([*fits[:3], *(c for c in " a1\n-" if c in fits), *fits])
            return
        yield from dict.fromkeys(
            unit
            for path in self.branches(list(body))
            for unit in (self.shortest(path), self.once(path), self.once(path) + self.shortest(path))
            if unit
        )

    def branches(self, body: list[Any]) -> Iterator[list[Any]]:
        for at, (op, value) in enumerate(body):
            if op in (sre.BRANCH, sre.SUBPATTERN) and len(_parts(op, value)) >= 1:
                inner = [way for part in _parts(op, value) for way in self.branches(list(part))]
                if len(inner) > 1:
                    yield from (body[:at] + way + body[at + 1 :] for way in inner)
                    return
        yield body

    def heads(self, rest: Sequence[Any]) -> Iterator[Any]:
        """The nodes of single characters that may come next."""
        for op, value in rest:
            if op in CHARACTERS:
                yield op, value
                return
            for part in _parts(op, value):
                yield from self.heads(list(part))
            if not (op in REPEATS and value[0] == 0):
                return

    def shortest(self, tree: Iterable[Any]) -> str:
        return "".join(self.text(op, value, least=True) for op, value in tree)

    def once(self, tree: Iterable[Any]) -> str:
        return "".join(self.text(op, value, least=False) for op, value in tree)

    def text(self, op: Any, value: Any, *, least: bool) -> str:
        if op in CHARACTERS:
            # A blank, if it is allowed, separates words that must begin and end there.
            pool = self.pool if least else f" {self.pool}"
            return next((char for char in pool if self.matches((op, value), char)), "")
        if op in REPEATS:
            inner = self.shortest(value[2]) if least else self.once(value[2])
            times = int(value[0] if least else max(value[0], min(value[1], 1)))
            return inner * min(times, 64)
        if op is sre.GROUPREF:
            return self.groups.get(value, "")
        if op in (sre.ASSERT, sre.ASSERT_NOT, sre.AT):
            return ""
        parts = _parts(op, value)
        found = "" if not parts else (self.shortest(parts[0]) if least else self.once(parts[0]))
        if op is sre.SUBPATTERN and value[0] is not None:
            self.groups[value[0]] = found
        return found

    def matches(self, node: Any, char: str) -> bool:
        op, value = node
        if op is sre.ANY:
            return char != "\n"
        if op in (sre.LITERAL, sre.NOT_LITERAL):
            return (chr(value) == char) is (op is sre.LITERAL)
        if op is sre.RANGE:
            return bool(value[0] <= ord(char) <= value[1])
        if op is sre.CATEGORY:
            return re.match(CATEGORIES[value], char) is not None
        if op is not sre.IN:
            return False
        refuses = value[0][0] is sre.NEGATE
        return any(self.matches(item, char) for item in value[refuses:]) is not refuses
