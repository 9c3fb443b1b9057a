"""Tools of the engines: the table of them, and the input type of each.

Every option of an engine becomes an argument of its tool with the same type. Pure: no server, no gateway.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
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
    are required. The engine describes its options itself.
    """

    name: str
    engine: str
    title: str
    description: str
    main: str
    main_is: str
    hidden: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()


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
    ),
    EngineTool(
        "complete_code",
        "code_completion",
        "Complete code",
        "Write the code between prefix and suffix, without explanations.",
        "prefix",
        "The code before the cursor.",
        hidden=frozenset({"prefix"}),
    ),
    EngineTool(
        "generate_code",
        "code_generation",
        "Generate code",
        "Write code for a task. The findings list each code block and whether its syntax is valid.",
        "task",
        "The task that the code should perform.",
    ),
    EngineTool(
        "solve_math",
        "mathematical_reasoning",
        "Solve mathematics",
        "Solve a problem step by step. The findings hold the final answer and whether a computer algebra "
        "system found it correct: true, false or unknown.",
        "problem",
        "The problem, in words, plain notation or LaTeX.",
    ),
    EngineTool(
        "review_contract",
        "legal_analysis",
        "Review a contract",
        "Review a legal document clause by clause, or for risks or compliance. Every quotation is checked "
        "against the document. This is not legal advice.",
        "document",
        "The text of the contract or other document.",
        hidden=frozenset({"document"}),
    ),
    EngineTool(
        "research",
        "scientific_research",
        "Research",
        "Write a literature review, a methodology, a peer review or an abstract from given sources. "
        "Citations of other sources are reported.",
        "question",
        "The subject to write about, or the text to review.",
    ),
    EngineTool(
        "summarize",
        "summarization",
        "Summarise",
        "Summarise a text of any length.",
        "text",
        "The text to summarise.",
        hidden=frozenset({"document"}),
    ),
    EngineTool(
        "answer_question",
        "question_answering",
        "Answer a question",
        "Answer a question, from passages if they are given. Quotations are checked against the passages.",
        "question",
        "The question.",
    ),
    EngineTool(
        "classify_text",
        "text_classification",
        "Classify a text",
        "Assign one of the given labels to a text, with a score for each label.",
        "text",
        "The text to classify.",
    ),
    EngineTool(
        "extract_information",
        "information_extraction",
        "Extract information",
        "Extract facts from a text as JSON that matches a schema. `findings.data` is that JSON, or null if "
        "the answer does not match.",
        "text",
        "The text to extract facts from.",
    ),
    EngineTool(
        "analyze_data",
        "data_analysis",
        "Analyse data",
        "Answer a question about a table. The numbers are computed from the table, not guessed by the model.",
        "question",
        "The question about the table.",
    ),
    EngineTool(
        "write_creatively",
        "creative_writing",
        "Write creatively",
        "Write a story, a poem, a dialogue or another creative text.",
        "prompt",
        "The subject to write about.",
    ),
)

DECODING = {
    "max_tokens": "Maximum number of tokens to generate.",
    "temperature": "Sampling temperature: 0 picks the most likely token, higher values vary more.",
    "top_p": "Nucleus sampling: sample only from the tokens that make up this share of the probability.",
    "seed": "Seed of the random numbers; the same seed gives the same text if the runtime supports it.",
    "stop": "Texts at which the answer ends.",
}
ROUTING = {
    "category": "Slug of a row of SETTINGS.md; list_models lists them.",
    "session_id": "Id of the stored conversation to continue.",
    "max_wait_s": "Maximum time to wait for the model, in seconds.",
}


def input_type(tool: EngineTool, options: type[EngineOptions]) -> type[ToolInput]:
    """The arguments of `tool`: its main one, the engine's options, decoding, category and session."""
    main = Field(min_length=1, max_length=MAX_PROMPT_CHARS, description=tool.main_is)
    fields: dict[str, Any] = {tool.main: (Annotated[str, main], ...)}
    for name, option in options.model_fields.items():
        called = option.alias or name
        if called not in tool.hidden and called != tool.main:
            fields[name] = _described(option, needed=called in tool.needed)
    for name, words in {**DECODING, **ROUTING}.items():
        fields.setdefault(name, _described(GenerateBody.model_fields[name], words))
    return create_model(f"{tool.name.title().replace('_', '')}Input", __base__=ToolInput, **fields)


def _described(option: FieldInfo, words: str | None = None, *, needed: bool = False) -> tuple[Any, FieldInfo]:
    """A copy of a model's field with a description, required if `needed`."""
    described = copy(option)
    described.description = option.description or words
    if needed:
        described.default = PydanticUndefined
    return option.annotation, described


def body_of(tool: EngineTool, category: str, given: ToolInput) -> GenerateBody:
    """Body of `/generate` for the given arguments. Raises RequestError."""
    values = given.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    prompt = values.pop(tool.main)
    flat = {name: values.pop(name) for name in (*DECODING, *ROUTING) if name in values}
    return parse(GenerateBody, {**flat, "category": category, "prompt": prompt, "options": values})
