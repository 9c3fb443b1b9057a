"""Checks the syntax of code: Python by its own parser, other languages by tree-sitter grammars.

Code is parsed and never run. A language without a packaged grammar gets no verdict.
"""

from __future__ import annotations

import ast
import importlib
import json
import warnings
from functools import cache

import tree_sitter

_GRAMMARS = {
    "bash": ("tree_sitter_bash", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "csharp": ("tree_sitter_c_sharp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "kotlin": ("tree_sitter_kotlin", "language"),
    "lua": ("tree_sitter_lua", "language"),
    "php": ("tree_sitter_php", "language_php"),
    "ruby": ("tree_sitter_ruby", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "swift": ("tree_sitter_swift", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
}
# Variants of a language: PHP without its opening tag, TypeScript with JSX.
_VARIANTS = {
    "php_only": ("tree_sitter_php", "language_php_only"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
}
# These grammars accept a method only inside a class.
_WRAPPED = {"java": "class Snippet {{\n{}\n}}", "csharp": "class Snippet {{\n{}\n}}"}
_SHOWN = 40


def syntax_error(language: str | None, code: str) -> tuple[bool | None, str | None]:
    """(True, None) for correct syntax, (False, line and fault), or (None, None) without a grammar."""
    if language == "python":
        return _verdict(_python(code))
    if language == "json":
        return _verdict(_json(code))
    if language not in _GRAMMARS:
        return None, None
    if language == "php" and "<?" not in code:  # without its tag all text is HTML and has no fault
        return _verdict(_tree("php_only", code))
    error = _tree(language, code)
    if error and language == "typescript":
        error = _tree("tsx", code) and error
    if error and language in _WRAPPED:
        error = _tree(language, _WRAPPED[language].format(code)) and error
    return _verdict(error)


def _verdict(error: str | None) -> tuple[bool, str | None]:
    return error is None, error


def _python(code: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:  # null bytes, nesting beyond the parser's stack
        return f"line 1: {error}"
    return None


def _json(code: str) -> str | None:
    try:
        json.loads(code)
    except (json.JSONDecodeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        return f"line {line}: {error.msg if isinstance(error, json.JSONDecodeError) else 'nested too deeply'}"
    return None


def _tree(language: str, code: str) -> str | None:
    source = code.encode("utf-8", "replace")
    root = _parser(language).parse(source).root_node
    if not root.has_error:
        return None
    node, waiting = root, [root]
    while waiting:
        now = waiting.pop()
        if now.is_error or now.is_missing:
            node = now
            break
        if now.has_error:
            waiting += reversed(now.children)
    line = node.start_point[0] + 1
    if node.is_missing:
        return f"line {line}: {node.type!r} is missing"
    text = source[node.start_byte : node.end_byte].decode("utf-8", "replace").strip().partition("\n")[0]
    return f"line {line}: unexpected {text[:_SHOWN]!r}"


@cache
def _parser(language: str) -> tree_sitter.Parser:
    module, function = (_GRAMMARS | _VARIANTS)[language]
    grammar = getattr(importlib.import_module(module), function)()
    return tree_sitter.Parser(tree_sitter.Language(grammar))
