"""Rules that find a prompt's task by its words. Pure; no model.

A rule is for unmistakable prompts; `conductor_admin.auto.chooser` compares the others with examples. Rules
are tried in order, the narrower before the wider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LANGUAGE = (
    r"(arabic|bengali|bulgarian|catalan|chinese|croatian|czech|danish|dutch|english|estonian|finnish|french|"
    r"german|greek|hebrew|hindi|hungarian|icelandic|indonesian|irish|italian|japanese|korean|latin|latvian|"
    r"lithuanian|malay|mandarin|norwegian|persian|polish|portuguese|romanian|russian|serbian|slovak|slovenian|"
    r"spanish|swahili|swedish|tamil|thai|turkish|ukrainian|urdu|vietnamese|welsh)"
)
_MADE = r"(write|implement|create|make|build|generate|give|code|develop|program)"
_CODE = (
    r"(function|method|class|program|script|regex|regular expression|unit tests?|api|endpoint|query|"
    r"component|decorator|algorithm|cli|command[- ]line tool|(flask|django|react) app)"
)
_ART = r"(poem|haiku|sonnet|limerick|ballad|story|tale|lyrics|song|screenplay|novel|fable|monologue)"
_OPENING = r"^\s*((please|now|can you|could you|would you)\W+)*"
_FORMULA = r"[-+*/^=().,\d\s]|\b(sin|cos|tan|log|ln|exp|sqrt|pi)\b|(?<![a-z])[a-z](?![a-z])"


@dataclass(frozen=True, slots=True)
class Rule:
    """Sends prompts that match `pattern` to `engine`; `reason` is for people."""

    engine: str
    pattern: re.Pattern[str]
    reason: str


def _rule(engine: str, reason: str, pattern: str) -> Rule:
    return Rule(engine, re.compile(pattern, re.IGNORECASE), reason)


RULES: tuple[Rule, ...] = (
    _rule(
        "code_completion",
        "begins as code",
        r"\A\s*(def \w+\(|class \w+[(:{]|#include\b|import [\w.]+( as \w+)?;?\n|from [\w.]+ import [\w, ]+\n|"
        r"for \w+ in .+:|package \w+;?$|(public|private|static|func|fn|function) [^.?!]*[({])",
    ),
    _rule(
        "translation",
        "asks for a translation",
        rf"{_OPENING}(translate\b|übersetz|tradui[st]\b|traduci\b|traduce\b|traduz)"
        rf"|\bhow (do|would|can) (you|i|we) say\b.{{1,200}}\bin {_LANGUAGE}\b"
        rf"|\btranslat(e|ion)\b.{{0,200}}\b(in)?to {_LANGUAGE}\b",
    ),
    _rule("summarization", "asks for a summary", rf"{_OPENING}(summari[sz]e|condense|shorten)\b|\btl;?dr\b"),
    _rule(
        "text_classification",
        "asks for a label",
        rf"{_OPENING}(classify|categori[sz]e|label) |\bpositive or negative\b|\bspam or (not|ham)\b",
    ),
    _rule("information_extraction", "asks to extract", rf"{_OPENING}(extract|pull out)\b"),
    _rule(
        "question_answering",
        "asks about a given text",
        r"\b(based on|according to|using|from) (only )?(the|this) (\w+ )?(passages?|contexts?)\b",
    ),
    _rule(
        "creative_writing",
        "asks for a piece of literature",
        rf"{_OPENING}(write|compose|tell|create|invent|make up) .{{0,30}}\b{_ART}\b",
    ),
    _rule("code_generation", "asks for code", rf"{_OPENING}{_MADE} .{{0,60}}\b{_CODE}\b"),
    _rule(
        "mathematical_reasoning",
        "is a formula or asks to work one out",
        rf"\A\s*(what('s| is) |solve |compute |calculate |evaluate |simplify |factor(ise|ize)? )?"
        rf"(?=[^\n]{{0,200}}[\d=])(?=[^\n]{{0,200}}[-+*/^=])({_FORMULA}){{3,200}}\??\s*\Z"
        r"|\b(integral|derivative|limit|gradient|determinant|eigenvalues?|standard deviation|variance) of\b"
        r"|\b(integrate|differentiate) ",
    ),
)


def by_rule(prompt: str) -> list[Rule]:
    """The rules that `prompt` matches, most important first."""
    return [rule for rule in RULES if rule.pattern.search(prompt)]
