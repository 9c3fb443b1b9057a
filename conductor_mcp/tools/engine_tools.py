"""Tools of the engines: the table of them, and the input type of each.

Every option of an engine becomes an argument of its tool with the same type. Pure: no server, no gateway.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from conductor_mcp.tools.base import ToolInput
from handlers.engines.base import EngineOptions
from handlers.strict_json import parse
from handlers.wire import MAX_PROMPT_CHARS, GenerateBody


@dataclass(frozen=True, slots=True)
class EngineTool:
    """A tool for one engine; its argument `main` is the prompt, `hidden` options are left out, `needed` ones
    are required, `words` describe options that the engine does not describe itself.
    """

    name: str
    engine: str
    title: str
    description: str
    main: str
    main_is: str
    hidden: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    words: dict[str, str] = field(default_factory=dict)


ENGINE_TOOLS = (
    EngineTool(
        "translate",
        "translation",
        "Translate",
        "Translate a text, line by line, keeping its layout. The findings name the languages and warn of "
        "lines that were lost or left untranslated.",
        "text",
        "The text to translate.",
        hidden=frozenset({"inputs"}),
        needed=frozenset({"target"}),
        words={
            "source": "The language of the text, by name or code; told from the text where it is not given.",
            "target": "The language to translate into, by name or code: German, de, deu_Latn.",
            "register": "How readers are addressed.",
        },
    ),
    EngineTool(
        "complete_code",
        "code_completion",
        "Complete code",
        "Write the code between prefix and suffix, and nothing else.",
        "prefix",
        "The code before the cursor.",
        hidden=frozenset({"prefix"}),
    ),
    EngineTool(
        "generate_code",
        "code_generation",
        "Generate code",
        "Write code that does a task. The findings hold each block of code and whether it is well formed.",
        "task",
        "What the code has to do.",
    ),
    EngineTool(
        "solve_math",
        "mathematical_reasoning",
        "Solve mathematics",
        "Solve a problem step by step. The findings hold the final answer and whether a computer algebra "
        "system found it right: true, false or unknown.",
        "problem",
        "The problem, in words, plain notation or LaTeX.",
    ),
    EngineTool(
        "review_contract",
        "legal_analysis",
        "Review a contract",
        "Review a legal document clause by clause, or for risks or compliance. Every quotation is looked up "
        "in the document. No legal advice.",
        "document",
        "The text of the contract or other document.",
        hidden=frozenset({"document"}),
        words={
            "task": "What to do; a review without it.",
            "area": "The area of law.",
            "jurisdiction": "Whose law applies.",
            "regulation": "For a compliance check: GDPR, HIPAA, CCPA, SOX, or the text of a rule.",
        },
    ),
    EngineTool(
        "research",
        "scientific_research",
        "Research",
        "Write a literature review, a methodology, a peer review or an abstract over given sources. "
        "Citations of anything else are reported.",
        "question",
        "What to write about, or the text to review.",
        words={
            "task": "The kind of text.",
            "bibliography": "The sources that may be cited, as BibTeX.",
            "style": "How references are written.",
        },
    ),
    EngineTool(
        "summarize",
        "summarization",
        "Summarise",
        "Summarise a text of any length.",
        "text",
        "The text to summarise.",
        hidden=frozenset({"document"}),
        words={"length": "How long the summary is.", "style": "Its form."},
    ),
    EngineTool(
        "answer_question",
        "question_answering",
        "Answer a question",
        "Answer a question, from passages where they are given; what the answer quotes is looked up in them.",
        "question",
        "The question.",
        words={"passages": "The texts that the answer may rest on."},
    ),
    EngineTool(
        "classify_text",
        "text_classification",
        "Classify a text",
        "Put a text under one of the given labels, with scores for each.",
        "text",
        "The text to classify.",
        words={"labels": "The labels to choose from.", "multiple": "Whether any number of labels may apply."},
    ),
    EngineTool(
        "extract_information",
        "information_extraction",
        "Extract information",
        "Take facts out of a text as JSON of a schema. `findings.data` is that JSON, or null where the "
        "answer is not of the schema.",
        "text",
        "The text to take the facts from.",
        words={"schema": "A JSON Schema of what is wanted; any object without it."},
    ),
    EngineTool(
        "analyze_data",
        "data_analysis",
        "Analyse data",
        "Answer a question about a table; the figures are computed, not guessed.",
        "question",
        "What to find out.",
    ),
    EngineTool(
        "write_creatively",
        "creative_writing",
        "Write creatively",
        "Write a story, a poem, a dialogue or the like.",
        "prompt",
        "What to write about.",
        words={
            "form": "The kind of text.",
            "tone": "The tone, in words.",
            "length": "A name, or a number of words.",
            "point_of_view": "Who tells it.",
            "continue_from": "A text to write on.",
        },
    ),
)

DECODING = {
    "max_tokens": "The most tokens to write.",
    "temperature": "0 is the most likely text, higher is more varied.",
    "top_p": "Only tokens within this probability mass.",
    "seed": "The same seed gives the same text where the runtime allows it.",
    "stop": "Texts that end the answer.",
}
ROUTING = {
    "category": "A row of SETTINGS.md, by its slug; list_models names them.",
    "session_id": "Continue the conversation of this id.",
    "max_wait_s": "Seconds that the request may wait for its model.",
}


def input_type(tool: EngineTool, options: type[EngineOptions]) -> type[ToolInput]:
    """The arguments of `tool`: its main one, the engine's options, decoding, category and session."""
    main = Field(min_length=1, max_length=MAX_PROMPT_CHARS, description=tool.main_is)
    fields: dict[str, Any] = {tool.main: (Annotated[str, main], ...)}
    for name, option in options.model_fields.items():
        called = option.alias or name
        if called not in tool.hidden and called != tool.main:
            fields[name] = _described(option, tool.words.get(called), needed=called in tool.needed)
    for name, words in {**DECODING, **ROUTING}.items():
        fields.setdefault(name, _described(GenerateBody.model_fields[name], words))
    return create_model(f"{tool.name.title().replace('_', '')}Input", __base__=ToolInput, **fields)


def _described(option: FieldInfo, words: str | None, *, needed: bool = False) -> tuple[Any, FieldInfo]:
    """A copy of a model's field with a description, required if `needed`."""
    told = copy(option)
    told.description = option.description or words
    if needed:
        told.default = PydanticUndefined
    return option.annotation, told


def body_of(tool: EngineTool, category: str, given: ToolInput) -> GenerateBody:
    """Body of `/generate` for the given arguments. Raises RequestError."""
    values = given.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    prompt = values.pop(tool.main)
    flat = {name: values.pop(name) for name in (*DECODING, *ROUTING) if name in values}
    return parse(GenerateBody, {**flat, "category": category, "prompt": prompt, "options": values})
