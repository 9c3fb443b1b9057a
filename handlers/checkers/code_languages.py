"""Programming languages: their names, their files' endings, and how to tell which one a text is in.

A guess is made by what only that language writes; where nothing speaks for one, there is no guess.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from handlers.checkers.code_signs import SIGNS

Name = Literal[
    "bash", "c", "cpp", "csharp", "css", "go", "html", "java", "javascript", "json", "kotlin", "lua", "php",
    "python", "r", "ruby", "rust", "scala", "sql", "swift", "typescript", "yaml",
]  # fmt: skip
NAMES: tuple[Name, ...] = get_args(Name)
_ALIASES = {
    "sh": "bash", "shell": "bash", "zsh": "bash", "c++": "cpp", "cxx": "cpp", "cc": "cpp", "c#": "csharp",
    "cs": "csharp", "golang": "go", "js": "javascript", "jsx": "javascript", "node": "javascript",
    "kt": "kotlin",
    "py": "python", "python3": "python", "rb": "ruby", "rs": "rust", "ts": "typescript", "tsx": "typescript",
    "yml": "yaml", "htm": "html", "postgresql": "sql", "mysql": "sql", "sqlite": "sql",
}  # fmt: skip
_ENDINGS = {
    "bash": "sh bash", "c": "c h", "cpp": "cpp cc cxx hpp hh", "csharp": "cs", "css": "css", "go": "go",
    "html": "html htm", "java": "java", "javascript": "js mjs cjs jsx", "json": "json", "kotlin": "kt kts",
    "lua": "lua", "php": "php", "python": "py pyi", "r": "r", "ruby": "rb", "rust": "rs", "scala": "scala",
    "sql": "sql", "swift": "swift", "typescript": "ts tsx mts", "yaml": "yml yaml",
}  # fmt: skip
_BY_ENDING = {ending: name for name, endings in _ENDINGS.items() for ending in endings.split()}
_SHEBANG = re.compile(r"#!.*?\b(bash|sh|zsh|python3?|node|ruby|lua|php)\b")
_FENCE = re.compile(r"^(?:```|~~~)\s*\{?\.?([\w+#-]+)", re.MULTILINE)
SEEN_CHARS = 20_000
SEEN_OF_LINE = 300
"""Runs of blanks, empty lines and endless lines would cost a search the square of their length."""
_ENOUGH = 2
_COMPILED = {
    name: [(re.compile(sign, re.MULTILINE), weight) for sign, weight in signs]
    for name, signs in SIGNS.items()
}
_MENTIONS = re.compile(
    r"\b(?:in|using|use|with|an?|the)\s+(?=(c\+\+|c#|[a-z]+)(?![\w+#])"
    r"(\s+(?:function|class|script|program|module|code|method|tests?|cli|api|snippet|implementation|version))?)",
    re.IGNORECASE,
)
# Also English words: lower-case ones count only before a word such as program.
_WORDS = {"c", "r", "go", "node", "shell", "swift"}


def canonical(name: Any) -> Any:
    """The name of a language for one of its other names; anything else as it is."""
    if not isinstance(name, str):
        return name
    folded = name.strip().lower()
    return _ALIASES.get(folded, folded)


Language = Annotated[Name, BeforeValidator(canonical)]


def of_name(name: str) -> Name | None:
    """The language called `name`, if it is known."""
    found = canonical(name)
    return found if found in NAMES else None


def of_file(filename: str) -> Name | None:
    """The language of a file by its ending."""
    found = _BY_ENDING.get(PurePosixPath(filename.replace("\\", "/")).suffix.lower().lstrip("."))
    return of_name(found) if found else None


def of_content(text: str) -> Name | None:
    """The language that `text` is written in, by what only that language writes; None if nothing tells."""
    lines = (re.sub(r"\s{9,}", " " * 8, line[:SEEN_OF_LINE]) for line in text[:SEEN_CHARS].splitlines())
    text = "\n".join(line for line in lines if line.strip())
    if shebang := _SHEBANG.match(text):
        return of_name(shebang[1])
    scores = {
        name: sum(weight * min(len(sign.findall(text)), 3) for sign, weight in signs)
        for name, signs in _COMPILED.items()
    }
    (best, most), (_, second) = sorted(scores.items(), key=lambda item: -item[1])[:2]
    return of_name(best) if most >= _ENOUGH and most > second else None


def of_mention(prompt: str) -> Name | None:
    """The language that a request asks for in words or in the tag of a fence."""
    if fence := _FENCE.search(prompt):
        return of_name(fence[1])
    for found in _MENTIONS.finditer(prompt[:SEEN_CHARS]):
        name = of_name(found[1])
        if name and (found[1] not in _WORDS or found[2]):
            return name
    return None
