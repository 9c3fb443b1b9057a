"""Programming languages: names, file endings, and the patterns that show the language of a text.

A language is guessed only from syntax that no other language has; without such syntax there is no guess. A
pattern is tried at every position of a text, so all its parts but the first are short.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

SIGNS: dict[str, tuple[tuple[str, int], ...]] = {
    "python": (
        (r"^[ \t]*+(?:async )?def \w+\(.{0,60}\).{0,60}:[ \t]*+$", 3),
        (r"^[ \t]*+(?:from \w[\w.]* )?import \w[\w., ]*$", 2),
        (
            r"^[ \t]*+(?:elif .{0,60}|class \w+(?:\(.{0,60}\))?|if __name__.{0,60}|except.{0,60}|"
            r"with .{0,60} as .{0,60}):[ \t]*+$",
            3,
        ),
        (r"\bself\.|\bprint\(|\bNone\b|^[ \t]*+@\w+", 1),
        (r"^[ \t]*+(?:for \w+ in .{0,60}|while .{0,60}|if .{0,60}|else):[ \t]*+$", 2),
    ),
    "javascript": (
        (r"\b(?:const|let) [\w{[].{0,60}=|\bvar \w+ =", 2),
        (r"=>\s{0,10}[{(\w]", 1),
        (r"\bfunction\s{0,10}\w*\s{0,10}\([^:)]{0,200}\)\s{0,10}\{", 2),
        (r"console\.log|require\(|module\.exports|document\.|===", 2),
        (r"\bexport (?:default|const|function)|\bimport .{0,60} from ['\"]", 2),
    ),
    "typescript": (
        (r"\b(?:interface|type) \w+(?:<\w+>)? (?:=|\{|extends)", 3),
        (r"[\w)\]]\??: (?:string|number|boolean|void|any|unknown|Promise<)", 4),
        (r"\b(?:const|let) \w+: ", 3),
        (r"\b(?:readonly|private|public) \w+\??:|\bimport type\b|\bas const\b", 3),
    ),
    "java": (
        (r"\bpublic (?:static |final |abstract )*(?:class|interface|enum|void|int|String|record)\b", 3),
        (r"System\.out\.print|\bimport java[x.]|@Override", 4),
        (r"\b(?:private|protected) (?:static |final )*\w+(?:<[^<>\n]{1,60}>)? \w+\s{0,10}[;(=]", 2),
        (r"\bnew \w+(?:<[^<>\n]{1,60}>)?\(", 1),
        (r"\bString\[\] \w+", 2),
    ),
    "csharp": (
        (r"^[ \t]*+using [A-Z][\w.]*;", 4),
        (r"Console\.Write|\bnamespace [A-Z]", 4),
        (r"\{ get; (?:private |init;)?(?:set; )?\}|\bstring\[\] args", 4),
        (r"\bpublic (?:async |static |override |virtual )*(?:string|Task|bool|void|int)\b", 2),
    ),
    "go": (
        (r"^package \w+[ \t]*+$", 4),
        (r"^[ \t]*+func (?:\(\w+ \*?\w+\) )?\w+\(", 3),
        (r"\b\w++ :=", 2),
        (r"\bfmt\.\w+\(|\bif err != nil|\bchan \w+|^import \(", 3),
        (r"^type \w+ (?:struct|interface) \{", 4),
    ),
    "rust": (
        (r"\bfn \w+(?:<[^<>\n]{1,60}>)?\(.{0,60}\)(?: -> [^{\n]{0,60})?\s{0,10}(?:\{|where|$)", 3),
        (r"\blet mut \w+|\bimpl(?:<[^<>\n]{1,60}>)? \w+|\bpub (?:fn|struct|enum|mod)\b", 3),
        (r"\b(?:println|vec|format|assert_eq)!\(?|#\[derive\(|&mut |&str\b|\buse (?:std|crate)::", 3),
        (r"\bmatch \w+ \{|\bSome\(|\bOk\(", 1),
    ),
    "c": (
        (
            r"^[ \t]*+#include\s{0,10}<(?:stdio|stdlib|string|math|stdint|stdbool|ctype|unistd|assert|errno|"
            r"time)\.h>",
            4,
        ),
        (r"\bprintf\(|\bmalloc\(|\bfree\(|\bsizeof\(|->\w", 2),
        (
            r"\b(?:int|void|char|double|float|struct \w++|size_t|unsigned)\s{0,10}\*?\s{0,10}\w+\s{0,10}"
            r"\([^)]{0,200}\)\s{0,10}\{",
            2,
        ),
        (r"^[ \t]*+#(?:define|ifdef|ifndef) \w+|\btypedef struct\b", 2),
    ),
    "cpp": (
        (
            r"^[ \t]*+#include\s{0,10}<(?:iostream|vector|string|map|algorithm|memory|unordered_map|"
            r"cmath|set)>",
            5,
        ),
        (r"\bstd::|\bcout\s{0,10}<<|\busing namespace std", 5),
        (r"\btemplate\s{0,10}<|\b(?:class|struct) \w+ (?:: public \w+ )?\{|\bnullptr\b|\bvirtual \w", 3),
        (r"\bauto&? \w+ [=:]", 3),
    ),
    "ruby": (
        (r"^[ \t]*+def \w+[?!]?(?:\(.{0,60}\))?[ \t]*+$", 3),
        (r"^[ \t]*+end[ \t]*+$", 2),
        (r"\bputs |\brequire ['\"]|\.each do \|| do \|\w+\||\battr_(?:accessor|reader)\b", 3),
        (r"\bunless\b|\belsif\b", 3),
        (r"@\w+ = ", 1),
    ),
    "php": (
        (r"<\?php", 6),
        (r"\$\w+\s{0,10}=[^=]|\$this->|\becho \$?", 3),
        (r"\bfunction \w+\(.{0,60}\$\w+", 3),
    ),
    "bash": (
        (r"^#!/.{0,60}sh\b", 5),
        (r"^[ \t]*+(?:if|while|elif) \[\[? .{0,60}\]\]?; (?:then|do)", 4),
        (r"^[ \t]*+(?:fi|done|esac|then|do)[ \t]*+$", 3),
        (r"\$\{?\w+\}?|^[ \t]*+echo |\$\(", 1),
        (r"^[ \t]*+\w+\(\) \{|^[ \t]*+(?:export|local) \w+=|^set -e", 3),
    ),
    "kotlin": (
        (r"\bfun (?:<[^<>\n]{1,60}> )?(?:\w+\.)?\w+\(.{0,60}\)(?:: \w+[^={\n]{0,60})?\s{0,10}[={]", 4),
        (r"\bdata class\b|\bval \w+(?:: \w+)? =|\bwhen \(|\bcompanion object\b", 3),
        (r"\bprintln\(|\?:|\blistOf\(", 1),
    ),
    "swift": (
        (r"\bfunc \w+(?:<[^<>\n]{1,60}>)?\(.{0,60}\)(?: throws)?(?: -> [^{\n]{0,60})?\s{0,10}\{", 4),
        (r"^[ \t]*+import (?:Foundation|UIKit|SwiftUI)|\bguard let\b|\bif let\b|\bprotocol \w+", 4),
        (r"\b(?:let|var) \w+: \[?[A-Z]\w*|\\\(\w+\)", 2),
    ),
    "lua": (
        (r"\blocal (?:function )?\w+", 3),
        (r"^[ \t]*+function [\w.:]+\(.{0,60}\)[ \t]*+$", 3),
        (r"\bthen[ \t]*+$|^[ \t]*+end[ \t]*+$|\.\.|~=", 1),
        (r"\bipairs\(|\bpairs\(|\bnil\b", 2),
    ),
    "scala": (
        (r"\bdef \w+(?:\[[^\[\]\n]{1,60}\])?\(.{0,60}\)(?:: \w+[^=\n]{0,60})? =", 4),
        (r"\b(?:case class|object|trait) \w+|\bimport scala\.", 3),
        (r"\bval \w+(?:: \w+)? =", 1),
    ),
    "r": (
        (r"\b\w++ <- function\(", 5),
        (r"^[ \t]*+\w+ <- ", 3),
        (r"\blibrary\(\w+\)|\bdata\.frame\(", 3),
    ),
    "sql": (
        (r"(?i:\bselect\b[\s\S]{1,200}?\bfrom\b)", 3),
        (r"(?i:\b(?:create table|insert into|update \w+ set|delete from|alter table)\b)", 4),
    ),
    "html": (
        (r"(?i:<!doctype html|<html|<body|<div|<script)", 4),
        (r"</\w+>", 1),
    ),
    "css": (
        (r"^[.#]?[\w-]+(?:[ ,.:>][\w .:#>-]*)?\s{0,10}\{[ \t]*+$", 2),
        (r"^[ \t]*+(?:color|margin|padding|display|font-size|background|width):[^;]{1,200};", 4),
    ),
    "json": (
        (r"\A\s*+[{\[]\s*+(?:\"[^\"]*\"\s{0,10}:|[{\[\]\d\"])", 3),
        (r"^[ \t]*+\"[\w-]+\": ", 2),
    ),
    "yaml": (
        (r"\A---[ \t]*+$", 4),
        (r"^\w[\w-]*:(?: [^;{]*)?$", 1),
        (r"^[ \t]++- \w+", 1),
    ),
}

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
"""Characters of a line that are searched.

Searching long lines or runs of blanks would take quadratic time.
"""
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
    """The usual name of the language that `name` is another name of; any other text unchanged."""
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
    """The language that `text` is written in, by syntax that only it has; None if there is none."""
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
