"""Personas of a settings page: the text below `## Conversational Persona`, named ones below `### Name`."""

from __future__ import annotations

from dataclasses import dataclass, field

from conductor_core.issues import Issue
from conductor_core.markdown_tables import Block, Heading

LONGEST_NAME = 200


@dataclass(slots=True)
class PersonaReader:
    """Collects persona texts from blocks given in order; the text is kept as it stands in the source."""

    source: str
    issues: list[Issue] = field(default_factory=list)
    _texts: dict[str | None, list[str]] = field(default_factory=dict)
    _names: dict[str, Heading] = field(default_factory=dict)
    _current: str | None = None

    def name(self, heading: Heading) -> None:
        """A `### Name` heading: what follows is that persona's text."""
        self._current = heading.text
        if not 0 < len(heading.text) <= LONGEST_NAME:
            self._report(heading, f"expected a name of 1 to {LONGEST_NAME} characters")
        elif heading.text.casefold() in self._names:
            self._report(heading, f"expected each persona once, got {heading.text!r} again")
        else:
            self._names[heading.text.casefold()] = heading

    def add(self, block: Block) -> None:
        """A block of the current persona's text."""
        self._texts.setdefault(self._current, []).append("\n".join(block.lines).strip("\n"))

    def default(self) -> str | None:
        """The text of the default persona."""
        return self._text(None) or None

    def named(self) -> dict[str, str]:
        """Text of each named persona; one without text is reported."""
        for heading in self._names.values():
            if not self._text(heading.text):
                self._report(heading, f"expected the persona's text below {heading.text!r}")
        return {heading.text: self._text(heading.text) for heading in self._names.values()}

    def _text(self, name: str | None) -> str:
        return "\n\n".join(self._texts.get(name, [])).strip()

    def _report(self, heading: Heading, message: str) -> None:
        self.issues.append(Issue(self.source, heading.line, 1, "Conversational Persona", message))
