"""Builds settings texts for the parser's tests."""

from __future__ import annotations

import pytest

from conductor_core.catalogue import Catalogue
from conductor_core.issues import SettingsError
from conductor_core.settings.parser import parse_settings

ENGINES = frozenset({"conversational_chat", "general_reasoning", "translation"})

COLUMNS = {
    "Category/Area": "Conversational Chat",
    "Best Open Source Model": "Llama 3.1 8B",
    "VRAM/RAM Requirements": "~8GB (FP16)",
    "Technical Model Name": "`meta-llama/Llama-3.1-8B-Instruct`",
    "Stay Loaded": "true",
    "Precision": "FP16",
}


def line(cells: list[str]) -> str:
    """A table line of `cells`."""
    return "| " + " | ".join(cells) + " |"


def settings_text(*rows: dict[str, str], before: str = "", after: str = "") -> str:
    """A settings page; each row is the default row with other cells, given by column name."""
    names = list(COLUMNS) + [name for row in rows for name in row if name not in COLUMNS]
    names = list(dict.fromkeys(names))
    lines = [line(names), line(["---"] * len(names))]
    lines += [line([({**COLUMNS, **row}).get(name, "") for name in names]) for row in rows]
    return before + "\n".join(lines) + "\n" + after


def parsed(*rows: dict[str, str], before: str = "", after: str = "") -> Catalogue:
    """The catalogue of `settings_text`."""
    return parse_settings(settings_text(*rows, before=before, after=after), engines=ENGINES)


def mistakes(*rows: dict[str, str], before: str = "", after: str = "") -> list[str]:
    """Every issue of `settings_text`, as printed."""
    return mistakes_of(settings_text(*rows, before=before, after=after))


def mistakes_of(text: str) -> list[str]:
    """Every issue of `text`, as printed."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, engines=ENGINES)
    return str(caught.value).splitlines()
