"""Category names as identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_core.issues import CellError
from conductor_core.slugs import SLUG, slug_of


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Conversational Chat", "conversational_chat"),
        ("  Traduction générale ", "traduction_generale"),
        ("Straße", "strasse"),
        ("Ærlig Łódź", "aerlig_lodz"),
        ("Code & Tests", "code_tests"),
        ("Text-to-SQL", "text_to_sql"),
        ("GPT-4.1 style", "gpt_4_1_style"),
        ("\uff21\uff22", "ab"),
    ],
)
def test_names_are_folded(name: str, slug: str) -> None:
    assert slug_of(name) == slug


@pytest.mark.parametrize("name", ["", "!!!", "数学", "x" * 65, "token", "Token Count"])
def test_names_without_a_slug_are_refused(name: str) -> None:
    with pytest.raises(CellError):
        slug_of(name)


@given(st.text())
def test_a_slug_is_valid_and_its_own_slug(name: str) -> None:
    try:
        slug = slug_of(name)
    except CellError:
        return
    assert SLUG.fullmatch(slug)
    assert not slug.startswith("token")
    assert slug_of(slug) == slug
