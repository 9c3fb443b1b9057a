"""What only one programming language writes: expressions and how much each speaks for it."""

from __future__ import annotations

SIGNS: dict[str, tuple[tuple[str, int], ...]] = {
    "python": (
        (r"^\s*(?:async )?def \w+\(.*\).*:\s*$", 3),
        (r"^\s*(?:from \w[\w.]* )?import \w[\w., ]*$", 2),
        (r"^\s*(?:elif .*|class \w+(?:\(.*\))?|if __name__.*|except.*|with .* as .*):\s*$", 3),
        (r"\bself\.|\bprint\(|\bNone\b|^\s*@\w+", 1),
        (r"^\s*(?:for \w+ in .*|while .*|if .*|else):\s*$", 2),
    ),
    "javascript": (
        (r"\b(?:const|let) [\w{[].*=|\bvar \w+ =", 2),
        (r"=>\s*[{(\w]", 1),
        (r"\bfunction\s*\w*\s*\([^:)]*\)\s*\{", 2),
        (r"console\.log|require\(|module\.exports|document\.|===", 2),
        (r"\bexport (?:default|const|function)|\bimport .* from ['\"]", 2),
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
        (r"\b(?:private|protected) (?:static |final )*\w+(?:<.*>)? \w+\s*[;(=]", 2),
        (r"\bnew \w+(?:<.*>)?\(", 1),
        (r"\bString\[\] \w+", 2),
    ),
    "csharp": (
        (r"^\s*using [A-Z][\w.]*;", 4),
        (r"Console\.Write|\bnamespace [A-Z]", 4),
        (r"\{ get; (?:private |init;)?(?:set; )?\}|\bstring\[\] args", 4),
        (r"\bpublic (?:async |static |override |virtual )*(?:string|Task|bool|void|int)\b", 2),
    ),
    "go": (
        (r"^package \w+\s*$", 4),
        (r"^\s*func (?:\(\w+ \*?\w+\) )?\w+\(", 3),
        (r"\w+ :=", 2),
        (r"\bfmt\.\w+\(|\bif err != nil|\bchan \w+|^import \(", 3),
        (r"^type \w+ (?:struct|interface) \{", 4),
    ),
    "rust": (
        (r"\bfn \w+(?:<.*>)?\(.*\)(?: -> .*)?\s*(?:\{|where|$)", 3),
        (r"\blet mut \w+|\bimpl(?:<.*>)? \w+|\bpub (?:fn|struct|enum|mod)\b", 3),
        (r"\b(?:println|vec|format|assert_eq)!\(?|#\[derive\(|&mut |&str\b|\buse (?:std|crate)::", 3),
        (r"\bmatch \w+ \{|\bSome\(|\bOk\(", 1),
    ),
    "c": (
        (
            r"^\s*#include\s*<(?:stdio|stdlib|string|math|stdint|stdbool|ctype|unistd|assert|errno|time)\.h>",
            4,
        ),
        (r"\bprintf\(|\bmalloc\(|\bfree\(|\bsizeof\(|->\w", 2),
        (r"\b(?:int|void|char|double|float|struct \w+|size_t|unsigned)\s*\*?\s*\w+\s*\([^)]*\)\s*\{", 2),
        (r"^\s*#(?:define|ifdef|ifndef) \w+|\btypedef struct\b", 2),
    ),
    "cpp": (
        (r"^\s*#include\s*<(?:iostream|vector|string|map|algorithm|memory|unordered_map|cmath|set)>", 5),
        (r"\bstd::|\bcout\s*<<|\busing namespace std", 5),
        (r"\btemplate\s*<|\b(?:class|struct) \w+ (?:: public \w+ )?\{|\bnullptr\b|\bvirtual \w", 3),
        (r"\bauto&? \w+ [=:]", 3),
    ),
    "ruby": (
        (r"^\s*def \w+[?!]?(?:\(.*\))?\s*$", 3),
        (r"^\s*end\s*$", 2),
        (r"\bputs |\brequire ['\"]|\.each do \|| do \|\w+\||\battr_(?:accessor|reader)\b", 3),
        (r"\bunless\b|\belsif\b", 3),
        (r"@\w+ = ", 1),
    ),
    "php": (
        (r"<\?php", 6),
        (r"\$\w+\s*=[^=]|\$this->|\becho \$?", 3),
        (r"\bfunction \w+\(.*\$\w+", 3),
    ),
    "bash": (
        (r"^#!/.*sh\b", 5),
        (r"^\s*(?:if|while|elif) \[\[? .*\]\]?; (?:then|do)", 4),
        (r"^\s*(?:fi|done|esac|then|do)\s*$", 3),
        (r"\$\{?\w+\}?|^\s*echo |\$\(", 1),
        (r"^\s*\w+\(\) \{|^\s*(?:export|local) \w+=|^set -e", 3),
    ),
    "kotlin": (
        (r"\bfun (?:<.*> )?(?:\w+\.)?\w+\(.*\)(?:: \w+.*)?\s*[={]", 4),
        (r"\bdata class\b|\bval \w+(?:: \w+)? =|\bwhen \(|\bcompanion object\b", 3),
        (r"\bprintln\(|\?:|\blistOf\(", 1),
    ),
    "swift": (
        (r"\bfunc \w+(?:<.*>)?\(.*\)(?: throws)?(?: -> .*)?\s*\{", 4),
        (r"^\s*import (?:Foundation|UIKit|SwiftUI)|\bguard let\b|\bif let\b|\bprotocol \w+", 4),
        (r"\b(?:let|var) \w+: \[?[A-Z]\w*|\\\(\w+\)", 2),
    ),
    "lua": (
        (r"\blocal (?:function )?\w+", 3),
        (r"^\s*function [\w.:]+\(.*\)\s*$", 3),
        (r"\bthen\s*$|^\s*end\s*$|\.\.|~=", 1),
        (r"\bipairs\(|\bpairs\(|\bnil\b", 2),
    ),
    "scala": (
        (r"\bdef \w+(?:\[.*\])?\(.*\)(?:: \w+.*)? =", 4),
        (r"\b(?:case class|object|trait) \w+|\bimport scala\.", 3),
        (r"\bval \w+(?:: \w+)? =", 1),
    ),
    "r": (
        (r"\w+ <- function\(", 5),
        (r"^\s*\w+ <- ", 3),
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
        (r"^[.#]?[\w-]+(?:[ ,.:>][\w .:#>-]*)?\s*\{\s*$", 2),
        (r"^\s*(?:color|margin|padding|display|font-size|background|width):[^;]+;", 4),
    ),
    "json": (
        (r"\A\s*[{\[]\s*(?:\"[^\"]*\"\s*:|[{\[\]\d\"])", 3),
        (r"^\s*\"[\w-]+\": ", 2),
    ),
    "yaml": (
        (r"\A---\s*$", 4),
        (r"^\w[\w-]*:(?: [^;{]*)?$", 1),
        (r"^\s+- \w+", 1),
    ),
}
