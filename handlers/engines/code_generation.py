"""Code generation: complete solutions by a template; the code in the answer is extracted and parsed."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.checks.code.blocks import Block, blocks
from handlers.checks.code.languages import Language, Name, of_content, of_mention, of_name
from handlers.engines.base import BaseLLMEngine, EngineOptions, asked_last, read_options
from handlers.wire import GenerateRequest, Sampling

Template = Literal["function", "class", "module", "test", "cli", "api", "docs"]
TEMPLATES: dict[Template, str] = {
    "function": "Write one function with typed parameters and a short comment on what it returns.",
    "class": "Write one class: its fields, its constructor, its methods, each with one purpose.",
    "module": "Write a whole module: imports, types, functions; importing it runs nothing.",
    "test": "Write tests for the code given: the normal case, the edges, every error.",
    "cli": "Write a command-line program: options with help texts, errors on stderr, exit codes.",
    "api": "Write an HTTP API: routes, validated input, proper status codes, errors as JSON.",
    "docs": "Write the documentation of the code given: purpose, parameters, results, errors, one example.",
}
ADVICE: dict[Name, str] = {
    "bash": "Begin with set -euo pipefail and quote every expansion.",
    "c": "Use C11, check every allocation and return code, and free what you allocate.",
    "cpp": "Use C++17, RAII and the standard library; no raw new or delete.",
    "csharp": "Use nullable reference types and async methods where there is I/O.",
    "go": "Return errors and wrap them with context; gofmt style.",
    "java": "Use Java 17, private final fields and java.util collections.",
    "javascript": "Use ES modules, const, and async/await.",
    "kotlin": "Use val, data classes and null safety; no !!.",
    "lua": "Keep everything local and return a table from a module.",
    "php": "Use PHP 8 with declare(strict_types=1) and typed properties.",
    "python": "Use Python 3.11 with type hints, PEP 8 names and docstrings.",
    "ruby": "Use idiomatic Ruby 3: blocks, keyword arguments, frozen string literals.",
    "rust": "Use Rust 2021, return Result, borrow rather than clone, and no unwrap outside tests.",
    "scala": "Use Scala 3, immutable values and case classes.",
    "sql": "Use standard SQL, explicit joins and named columns.",
    "swift": "Use Swift 5, value types and guard.",
    "typescript": "Use strict TypeScript: no any, interfaces for shapes.",
}


class CodeOptions(EngineOptions):
    """`options` of this engine."""

    language: Annotated[Language | None, Field(description="programming language to write in")] = None
    template: Annotated[Template | None, Field(description="kind of code to write")] = None


class CodeGeneration(BaseLLMEngine):
    """Findings: `language`, and `blocks` with `language`, `code`, `syntax_ok` and `error` of each."""

    name: ClassVar[str] = "code_generation"
    system_prompt: ClassVar[str] = (
        "You are an expert programmer. Write complete, correct code that runs as it stands, with no "
        "placeholders. Put all code in fenced blocks that name their language, and explain it briefly."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.2, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = CodeOptions
    libraries: ClassVar[tuple[str, ...]] = ("handlers.checks.code.syntax",)

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The rules of the language, then the instructions of the template."""
        options = read_options(CodeOptions, request)
        language = options.language or of_mention(asked_last(request))
        sentences = [self.system_prompt]
        if language:
            sentences.append(f"Write in {language}. {ADVICE.get(language, '')}".strip())
        if options.template:
            sentences.append(TEMPLATES[options.template])
        return " ".join(sentences)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The code blocks of the answer, each parsed in its language."""
        # Only the checker process loads the grammars: a worker imports this module without them.
        from handlers.checks.code.syntax import syntax_error

        found = []
        for block, language in self._blocks(request, text):
            ok, error = syntax_error(language, block.code)
            if ok is False and not block.closed:
                error = f"the answer ends inside this block; {error}"
            found.append({"language": language, "code": block.code, "syntax_ok": ok, "error": error})
        return {"language": self._language(request, found), "blocks": found}

    def unchecked(self, request: GenerateRequest, text: str, reason: str) -> dict[str, Any]:
        """The code blocks of the answer, not parsed."""
        found = [
            {"language": language, "code": block.code, "syntax_ok": None, "error": reason}
            for block, language in self._blocks(request, text)
        ]
        return {"language": self._language(request, found), "blocks": found}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without language and code."""
        return {"language": None, "blocks": [], "warnings": [reason]}

    def _blocks(self, request: GenerateRequest, text: str) -> list[tuple[Block, str | None]]:
        wanted = read_options(CodeOptions, request).language or of_mention(asked_last(request))
        fenced = blocks(text)
        if not fenced:
            # Some models answer with code and no fence; prose has no language.
            bare = of_content(text)
            return [(Block("", text), wanted or bare)] if bare else []
        # A tag that names no known language (text, console, diff) is not parsed.
        return [
            (block, of_name(block.tag) if block.tag else of_content(block.code) or wanted) for block in fenced
        ]

    def _language(self, request: GenerateRequest, found: list[dict[str, Any]]) -> str | None:
        first = next((block["language"] for block in found if block["language"]), None)
        return read_options(CodeOptions, request).language or first or of_mention(asked_last(request))
