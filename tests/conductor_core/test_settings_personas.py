"""Personas of a settings page."""

from __future__ import annotations

from conductor_core.settings.parser import parse_settings
from tests.conductor_core.settings_texts import mistakes, parsed, settings_text

PERSONA = "## Conversational Persona\n\n"


def test_the_text_below_the_heading_is_the_default_persona() -> None:
    catalogue = parsed({}, before=f"# Title\n\n{PERSONA}You are *kind*.\n\n- and brief\n\n")
    assert catalogue.persona == "You are *kind*.\n\n- and brief"
    assert catalogue.personas == {}


def test_a_page_without_the_section_has_no_persona() -> None:
    assert parsed({}, before="# Title\n\nIntroduction.\n\n").persona is None


def test_headings_below_it_name_further_personas() -> None:
    before = (
        f"{PERSONA}Default.\n\n### Pirate\n\nSay arr.\n\n#### Details\n\nOften.\n\n### `Judge`\nBe stern.\n\n"
    )
    catalogue = parsed({}, before=before)
    assert catalogue.persona == "Default."
    assert catalogue.personas == {"Pirate": "Say arr.\n\n#### Details\n\nOften.", "Judge": "Be stern."}


def test_the_table_of_rows_ends_the_persona_without_a_heading() -> None:
    catalogue = parse_settings(settings_text({}, before=f"{PERSONA}Default.\n\n", after="\nA remark.\n"))
    assert catalogue.persona == "Default."


def test_a_table_of_another_kind_belongs_to_the_persona() -> None:
    table = "| Mood | Words |\n|---|---|\n| glad | few |"
    assert parsed({}, before=f"{PERSONA}Default.\n\n{table}\n\n").persona == f"Default.\n\n{table}"


def test_a_line_of_dashes_below_the_text_does_not_swallow_it() -> None:
    assert parsed({}, before=f"{PERSONA}Default.\n---\n\n").persona == "Default.\n\n---"


def test_the_next_section_ends_the_persona() -> None:
    assert parsed({}, before=f"{PERSONA}Default.\n\n## Models\n\nRemark.\n\n").persona == "Default."


def test_a_persona_twice_or_without_text_or_name_is_an_error() -> None:
    found = mistakes({}, before=f"{PERSONA}### A\n\nText.\n\n### a\n\nMore.\n\n### B\n\n###\n\nText.\n\n")
    assert found == [
        "SETTINGS.md:7:1: Conversational Persona: expected each persona once, got 'a' again",
        "SETTINGS.md:11:1: Conversational Persona: expected text for the persona below 'B'",
        "SETTINGS.md:13:1: Conversational Persona: expected a name of 1 to 200 characters",
    ]
