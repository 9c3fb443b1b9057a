"""Plain mathematical notation: its tokens, and numbers, powers and functions for its parser.

LaTeX is turned into plain notation first. Numbers, powers and functions are bounded so that none fills
memory. `FUNCTIONS` maps a name to its SymPy function; those of `TWO` take several arguments in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy

MAX_CHARS = 2_000

MAX_BITS = 200_000
TWO = {"gcd", "lcm", "binomial", "root", "C", "nCr"}


class NotMaths(ValueError):
    """The text is not supported notation, or it is ambiguous."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `kind` is number, name, op or end; `spaced` is True if white space comes before it."""

    kind: str
    text: str
    spaced: bool = False


_TOKEN = re.compile(
    r"(?P<space>\s*)(?:"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![A-Za-z]))?)"
    r"|(?P<name>[A-Za-z]+(?:_(?:\d+|[A-Za-z])(?![A-Za-z]))?'*)"
    r"|(?P<op>\*\*|<=|>=|!=|==|->|\+-|[-+*/^=<>!%°|(),;\[\]{}_±]))"
)
_SIGNS = {
    "−": "-", "–": "-", "·": "*", "⋅": "*", "×": "*", "∗": "*", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!=",
    "π": " pi ", "∞": " oo ", "√": " sqrt ", "²": "^2", "³": "^3", "⁴": "^4", "→": "->", "θ": " theta ",
    "∪": " cup ", "∈": " in ", "λ": " lambda ", "½": "(1/2)", "¼": "(1/4)", "⅓": "(1/3)",
    "\u00a0": " ", "′": "'",
}  # fmt: skip
_COMMANDS = {
    "cdot": "*", "times": "*", "div": "/", "pi": " pi ", "infty": " oo ", "pm": "±", "le": "<=", "leq": "<=",
    "ge": ">=", "geq": ">=", "ne": "!=", "neq": "!=", "to": "->", "rightarrow": "->",
    "lvert": "|", "rvert": "|",
    "circ": "°", "lt": "<", "gt": ">", "left": "", "right": "", "displaystyle": "", "quad": " ", "qquad": " ",
    "lbrace": "{", "rbrace": "}", "langle": "(", "rangle": ")", "big": "", "Big": "", "bigl": "", "bigr": "",
    "limits": "",
}  # fmt: skip
_GROUP = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_FRACTION = re.compile(r"\\[dtc]?frac\s*" + _GROUP + r"\s*" + _GROUP)
_MIXED = re.compile(r"(?<![\w.)}^_])(\d+)\s*(?:\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}|\s(\d+)/(\d+)(?![\d.^!]))")
_LOWERED = re.compile("[₀-₉]")
_SHORT_FRACTION = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)")
_ROOT = re.compile(r"\\sqrt\s*+(?:\[(\w+)\]\s*+)?" + _GROUP)
_BINOMIAL = re.compile(r"\\[dt]?binom\s*" + _GROUP + r"\s*" + _GROUP)
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}((?:(?!\\begin\{).)*?)\\end\{\1\}", re.DOTALL)
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname|mbox|textit)\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*" + _GROUP)
_SCRIPT = re.compile(r"([\^_])" + _GROUP)
_SPACES = re.compile(r"\\[,;:! ]|~|\\(?=\n)|&")


def plain(text: str) -> str:
    """`text` with its LaTeX and typographic signs as plain notation; NotMaths if it is too long."""
    if len(text) > MAX_CHARS:
        raise NotMaths(f"longer than {MAX_CHARS} characters")
    for sign, spelled in _SIGNS.items():
        text = text.replace(sign, spelled)
    text = _LOWERED.sub(lambda m: f"_{ord(m[0]) - ord('₀')}", text)
    text = _MATRIX.sub(_matrix, _MIXED.sub(_mixed, text).replace("$", ""))
    text = _WORDS.sub(r" \1 ", _SPACES.sub(" ", text.replace(r"\%", "%")))
    for _ in range(20):  # from the inside out, as deep as people nest by hand
        before = text
        text = _SHORT_FRACTION.sub(r"((\1)/(\2))", text)
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _BINOMIAL.sub(r" binomial((\1),(\2))", text)
        text = _ROOT.sub(lambda m: f" root(({m[2]}),{m[1]})" if m[1] else f" sqrt({m[2]})", text)
        text = _SCRIPT.sub(r"\1(\2)", _BOX.sub(r"\1", text))
        if text == before:
            break
    text = re.sub(r"_\((\w+)\)", r"_\1", text).replace("\\{", "{").replace("\\}", "}")
    text = re.sub(r"\\([A-Za-z]+)", lambda m: _COMMANDS.get(m[1], f" {m[1]} "), text)
    return re.sub(r"\^\s*(?:°|\(\s*°\s*\))", "°", re.sub(r"(?<=[A-Za-z]) +_(?=\w)", "_", text))


def _mixed(found: re.Match[str]) -> str:
    """Reads 2 1/2 as two and a half; 2 3/2 is not a mixed number and is ambiguous."""
    whole, above, below = found[1], found[2] or found[4], found[3] or found[5]
    return f" ({whole}+{above}/{below})" if int(above) < int(below) else found[0]


def _matrix(found: re.Match[str]) -> str:
    if found[1] == "vmatrix":
        raise NotMaths("a determinant")
    rows = [row.split("&") for row in re.split(r"\\\\", found[2]) if row.strip()]
    return "[" + ",".join("[" + ",".join(row) + "]" for row in rows) + "]"


def tokens(text: str) -> list[Token]:
    """The tokens of plain notation with an `end` token last; NotMaths for an unknown character."""
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotMaths(f"{text[at]!r} is not mathematical notation")
        kind = match.lastgroup or ""
        found.append(
            Token(
                kind, match[kind].replace(",", "") if kind == "number" else match[kind], bool(match["space"])
            )
        )
        at = match.end()
    return [*found, Token("end", "")]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan,
    "sec": sympy.sec, "csc": sympy.csc, "cot": sympy.cot,
    "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh,
    "asinh": sympy.asinh, "acosh": sympy.acosh, "atanh": sympy.atanh,
    "exp": sympy.exp, "sqrt": sympy.sqrt, "cbrt": sympy.cbrt, "root": sympy.root, "abs": sympy.Abs,
    "floor": sympy.floor, "ceil": sympy.ceiling, "ceiling": sympy.ceiling, "min": sympy.Min, "max": sympy.Max,
    "gcd": sympy.gcd, "lcm": sympy.lcm,
    "binomial": sympy.binomial, "C": sympy.binomial, "nCr": sympy.binomial,
    "factorial": lambda value: factorial(value),
}  # fmt: skip


def number(text: str) -> Any:
    """The exact value of a number, decimals as fractions."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > 400 or (exponent and abs(int(exponent[:6])) > 400):
        raise NotMaths("a number with hundreds of digits")
    return sympy.Rational(mantissa) * sympy.Integer(10) ** int(exponent or 0)


def power(base: Any, exponent: Any) -> Any:
    """`base` to the `exponent`; NotMaths where the number would fill the memory."""
    if isinstance(base, sympy.MatrixBase):
        if not (exponent.is_Integer and abs(exponent) <= 100):
            raise NotMaths("this power of a matrix")
    elif exponent.is_Rational and base.is_Rational:
        bits = max(abs(base.p), base.q).bit_length()
        if abs(exponent.p) // exponent.q * bits > MAX_BITS:
            raise NotMaths("a number with thousands of digits")
    return base**exponent


def factorial(value: Any) -> Any:
    """`value`!; NotMaths from 3,000 on."""
    if value.is_number and abs(value) > 3000:
        raise NotMaths("a number with thousands of digits")
    return sympy.factorial(value)


def quotient(value: Any, divisor: Any) -> Any:
    """`value` / `divisor`; NotMaths for zero."""
    if divisor == 0:
        raise NotMaths("a division by zero")
    return value / divisor


def apply(name: str, argument: Any) -> Any:
    """The function called `name` of one argument, or of the several of `min` and `max`."""
    many = isinstance(argument, sympy.Tuple)
    if many != (name in ("min", "max")):
        raise NotMaths(f"{name} takes a different number of arguments")
    return FUNCTIONS[name](*argument) if many else FUNCTIONS[name](argument)
