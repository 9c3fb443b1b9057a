"""Scientific research: sources as instructions, references by style, citations, DOIs."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.checks.text.bibliography import is_doi, read_bibliography, written_dois
from handlers.engines.scientific_research import ScientificResearch
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

BIBTEX = r"""
@article{Ein05, title = {On {\"u}ber the {DNA} & more}, journal = "Nature Physics", volume = 3, number = {4},
  author = {Einstein, Albert and Jane Q. Doe and van der Berg, Ludwig and {World Health Organization}},
  year = 1905, month = may, pages = {1--10}, doi = {10.1000/xyz}, abstract = {Fields move.}}
@book{knuth68, title={Art of programming}, author={Knuth, Donald E.}, publisher={Addison}, year={1968}}
@inproceedings{vas17, title={Attention}, author={Ashish Vaswani and others}, booktitle={NeurIPS}, year={2017},
  doi={10.12/short}}
"""


def asked(**options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="scientific_research", prompt="Why?", options=options)


def found(text: str, **options: Any) -> dict[str, Any]:
    return ScientificResearch().check(asked(**{"bibliography": BIBTEX, **options}), text)


def citations(text: str, **options: Any) -> list[tuple[str, bool]]:
    return [(one["key"], one["supported"]) for one in found(text, **options)["citations"]]


async def researched(model: ScriptedModel, request: GenerateRequest) -> str:
    engine = ScientificResearch()
    engine.load_model(model)
    return await engine.generate(request)


@pytest.mark.parametrize(
    ("style", "first"),
    [
        (
            "apa",
            "Einstein, A., Doe, J. Q., van der Berg, L., & World Health Organization. (1905). On über the "
            "DNA & more. Nature Physics, 3(4), 1–10. https://doi.org/10.1000/xyz",
        ),
        (
            "ieee",
            "[1] A. Einstein, J. Q. Doe, L. van der Berg, and World Health Organization, “On über the "
            "DNA & more”, Nature Physics, vol. 3, no. 4, pp. 1–10, May 1905, doi: 10.1000/xyz.",
        ),
        (
            "vancouver",
            "1. Einstein A, Doe JQ, van der Berg L, World Health Organization. On über the DNA & more. "
            "Nature Physics. 1905;3(4):1–10. doi:10.1000/xyz",
        ),
        (
            "nature",
            "1. Einstein, A., Doe, J. Q., van der Berg, L. & World Health Organization. On über the DNA & "
            "more. Nature Physics 3, 1–10 (1905).",
        ),
    ],
)
def test_references_are_written_in_the_style(style: str, first: str) -> None:
    references = found("", style=style)["references"]
    assert references[0] == {"key": "Ein05", "text": first}
    assert [one["key"] for one in references] == ["Ein05", "knuth68", "vas17"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("So it is [@Ein05].", "Ein05"),
        ("As @knuth68 has it.", "knuth68"),
        (r"So \citep[p.~3]{vas17}.", "vas17"),
        ("So it is [knuth68].", "knuth68"),
        ("So it is [2].", "knuth68"),
        ("So it is (Einstein et al., 1905).", "Ein05"),
        ("So it is (see Knuth, 1968, p. 12).", "knuth68"),
        ("Vaswani and Shazeer (2017) say so.", "vas17"),
    ],
)
def test_a_citation_of_a_given_source_is_supported(text: str, key: str) -> None:
    assert citations(text) == [(key, True)]
    assert found(text)["warnings"] == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("So it is [@Smith2020].", "Smith2020"),
        (r"So \cite{ghost}.", "ghost"),
        ("So it is [smith2020].", "smith2020"),
        ("So it is [4].", "[4]"),
        ("So it is (Smith & Roe, 2020).", "Smith & Roe, 2020"),
        ("So it is (Knuth, 1997).", "Knuth, 1997"),
        ("Brown et al. (2001) say so.", "Brown et al. (2001)"),
    ],
)
def test_an_invented_citation_is_flagged(text: str, key: str) -> None:
    assert citations(text) == [(key, False)]
    assert found(text)["warnings"] == [f"citation of an unknown source: {key}"]


def test_several_citations_in_one_place_are_told_apart() -> None:
    text = "[@Ein05; @ghost], [1, 3-4], (Knuth, 1968; Smith, 2020), again [@ghost]"
    assert citations(text) == [
        ("Ein05", True), ("ghost", False), ("[4]", False), ("vas17", True), ("Smith, 2020", False),
        ("knuth68", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["In March (2020) it rained.", "(May 2020)", "a@b.org", "[a note]", "[1](http://x)"]
)
def test_what_only_looks_like_a_citation_is_none(text: str) -> None:
    assert citations(text) == []


def test_without_sources_no_citation_is_supported() -> None:
    assert citations("(Knuth, 1968)", bibliography=None) == [("Knuth, 1968", False)]


def test_dois_are_judged_by_their_form() -> None:
    answer = found("See doi:10.1000/xyz, https://doi.org/10.5555/abc(1)2. and doi: 10.1/no (doi:foo).")
    assert answer["invalid_dois"] == ["10.12/short", "10.1/no", "foo"]
    assert "DOI of an unknown source: 10.5555/abc(1)2" in answer["warnings"]
    assert "DOI of an unknown source: 10.1000/xyz" not in answer["warnings"]


@pytest.mark.parametrize(
    "doi", ["10.1038/nphys1170", "10.1002/(SICI)1097-4571(199806)49:8<693::AID>3.0.CO;2-O"]
)
def test_a_doi_is_known_as_one(doi: str) -> None:
    assert is_doi(doi)
    assert written_dois("10.1038/nphys1170.") == ["10.1038/nphys1170"]


async def test_the_sources_stand_in_the_instructions_with_their_keys() -> None:
    model = ScriptedModel("x", "x")
    await researched(model, asked(task="literature_review", bibliography=BIBTEX))
    system = model.asked[0][0][0].content
    assert "literature review" in system
    assert "[@knuth68] Knuth, D. E. (1968)" in system
    assert "Abstract: Fields move." in system
    await researched(model, asked())
    assert "cite none" in model.asked[1][0][0].content


@pytest.mark.parametrize(
    ("bibtex", "said"),
    [
        ("", "does not contain a BibTeX entry"),
        ("hello", "does not contain a BibTeX entry"),
        ("\n@article{a, title={x}", "line 2"),
        ("@article{a,title={x}}\n@article{a,title={y}}", "line 2: Duplicate"),
        ("@article{a b, title={c}}", "is not a key"),
        ("@article{a, author={A, B, C, D}}", "Too many commas"),
    ],
)
def test_a_broken_bibliography_is_refused_with_its_line(bibtex: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        ScientificResearch().accept(asked(bibliography=bibtex))
    assert (refused.value.status, refused.value.param) == (400, "options.bibliography")


@pytest.mark.parametrize(
    ("options", "param"),
    [({"task": "x"}, "task"), ({"style": "mla"}, "style"), ({"bibliography": 1}, "bibliography")],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        ScientificResearch().check(asked(**options), "x")
    assert (refused.value.status, refused.value.param) == (400, f"options.{param}")


def test_an_entry_without_anything_has_a_reference_all_the_same() -> None:
    answer = found("", bibliography="@misc{bare}\n@online{web, url={https://a.b/c%20d~e#f}}", style="nature")
    assert [one["key"] for one in answer["references"]] == ["bare", "web"]
    assert "https://a.b/c%20d~e#f" in answer["references"][1]["text"]
    assert read_bibliography("@misc{bare}")[0].families == ()


def test_what_could_not_be_checked_keeps_the_form_of_the_findings() -> None:
    request = GenerateRequest(id="r", engine="scientific_research", prompt="Review.")
    engine = ScientificResearch()
    unchecked = engine.unchecked(request, "As shown [@smith].", "stopped")
    assert unchecked.keys() == engine.check(request, "As shown [@smith].").keys()
    assert unchecked["warnings"] == ["stopped"]
