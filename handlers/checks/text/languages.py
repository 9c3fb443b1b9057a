"""Languages by any name (ISO and FLORES codes, English and native names), and detection of a text's language.

A language is written here as FLORES-200 has it, `fra_Latn`: ISO 639-3 and the script. Knows no model.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import langcodes
    from lingua import LanguageDetector

# FLORES names one language of each of these ISO macro-languages.
INDIVIDUAL = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "din": "dik", "fas": "pes", "ful": "fuv", "fil": "tgl",
    "kau": "knc", "kur": "kmr", "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi",
    "nor": "nob", "ori": "ory", "orm": "gaz", "pus": "pbt", "que": "quy", "sqi": "als", "swa": "swh",
    "tmh": "taq", "uzb": "uzn", "yid": "ydd", "cmn": "zho", "ekk": "est",
}  # fmt: skip
# Codes of M2M100 that mean another language elsewhere.
OLDER = {"ns": "nso"}
# Languages on one line are easily confused in short texts.
ALIKE = (
    {"nob", "nno", "dan", "swe"}, {"hrv", "srp", "bos", "slv"}, {"ind", "zsm"}, {"ces", "slk"},
    {"spa", "glg", "cat", "por"},
    {"afr", "nld"}, {"rus", "ukr", "bel", "bul", "mkd"}, {"zul", "xho", "sot", "tsn"}, {"pes", "prs", "arb"},
    {"azj", "tur"}, {"hin", "mar"},
)  # fmt: skip


def language_code(name: str) -> str | None:
    """`fr`, `fra`, `fra_Latn`, `French` or `français` as `fra_Latn`; None for a name of no known language."""
    tag = _tag(name.strip())
    if tag is None:
        return None
    full = tag.maximize()
    try:
        language = "prs" if (tag.language, tag.territory) == ("fa", "AF") else full.to_alpha3()
    except LookupError:  # x-private
        return None
    return f"{INDIVIDUAL.get(language, language)}_{full.script or 'Latn'}"


def english_name(code: str) -> str:
    """The English name for an instruction: `zho_Hans` is Chinese (Simplified)."""
    import langcodes

    tag = langcodes.Language.get(code)
    usual = tag.language is not None and langcodes.Language.get(tag.language).maximize().script == tag.script
    shown = langcodes.Language.get(tag.language or "") if usual and tag.language != "zh" else tag
    return shown.display_name().replace(" (individual language)", "")


def load_library() -> None:
    """Imports langcodes, which takes 50 ms, where no event loop waits for it."""
    importlib.import_module("langcodes")


def short_code(code: str | None) -> str:
    """The ISO 639-1 code where there is one: `spa_Latn` is es; that of English if the language is unknown."""
    import langcodes

    return langcodes.Language.get(code).language or "en" if code else "en"


def known_as(code: str, known: Iterable[str]) -> str | None:
    """The name in `known` for the language `code`: with the same script, else with any script.

    None if missing.
    """
    names = _by_code(frozenset(known))
    if code in names:
        return names[code]
    same = sorted(full for full in names if _language(full) == _language(code))
    return names[same[0]] if same else None


def individual(code: str) -> str | None:
    """`language_code` of a name of one single language; None for families such as `ROMANCE` and `mul`."""
    import langcodes

    tag = _tag(code)
    is_one = isinstance(tag, langcodes.Language) and len(tag.language or "") == 2
    return language_code(code) if is_one else None


def is_same_language(one: str, other: str) -> bool:
    """True if both codes are of the same language, in any script."""
    return _language(one) == _language(other)


def detect_language(text: str) -> str | None:
    """The most likely language of `text`; None if it has no letters or cannot be decided."""
    found = _detector().detect_language_of(text[:4000])
    return language_code(found.iso_code_639_3.name.lower()) if found else None


def is_other_language(text: str, code: str) -> bool:
    """True if `text` is surely not in `code`; False if it is short or the languages are easily confused."""
    if len(text.strip()) < 20 or _language(code) not in _detectable():
        return False
    detected = detect_language(text)
    if detected is None or is_same_language(detected, code):
        return False
    return not any({_language(detected), _language(code)} <= group for group in ALIKE)


def _language(code: str) -> str:
    return code.partition("_")[0]


def _tag(name: str) -> langcodes.Language | None:
    import langcodes

    if not name or len(name) > 60 or not name.isprintable():
        return None
    try:
        tag = langcodes.Language.get(OLDER.get(name, name))
    except ValueError:
        tag = None
    if tag is not None and tag.language and tag.is_valid():
        return tag
    # "Chinese (Simplified)" is found as "Simplified Chinese", "Portuguese (Brazil)" as "Portuguese".
    outer, _, inner = name.removesuffix(")").partition("(")
    is_bracketed = name.endswith(")") and outer.strip() and inner and not {"(", ")"} & {*outer, *inner}
    spellings = (f"{inner} {outer.rstrip()}", outer.rstrip()) if is_bracketed else (name,)
    return next((found for found in map(_found, spellings) if found is not None), None)


def _found(name: str) -> langcodes.Language | None:
    import langcodes

    try:
        return langcodes.find(name)
    except LookupError:
        return None


@cache
def _by_code(known: frozenset[str]) -> dict[str, str]:
    found = {language_code(name): name for name in sorted(known)}
    return {code: name for code, name in found.items() if code}


@cache
def _detector() -> LanguageDetector:
    from lingua import LanguageDetectorBuilder

    # All languages take 850 MB at high accuracy, 60 MB at low; both detected 11 of 12 short sentences.
    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()


@cache
def _detectable() -> frozenset[str]:
    from lingua import Language

    codes = (language_code(one.iso_code_639_3.name.lower()) for one in Language.all())
    return frozenset(_language(code) for code in codes if code)
