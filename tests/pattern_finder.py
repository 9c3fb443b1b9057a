"""Finds all regular expressions of the project: Python's by syntax trees, the page's by literals."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests import source_tree
from tests.source_tree import ROOT, modules, project_files

MODULES = {"re", "regex", "re2", "sre_compile"}
USES = ("search", "match", "fullmatch", "finditer", "findall", "sub", "subn", "split")
KEYWORDS = {"pattern", "regex"}
"""Names under which pydantic, FastAPI and JSON Schema take patterns."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression. `where` is its position in the source; `uses` are the methods called on it."""

    where: str
    text: str
    flags: int
    uses: frozenset[str]


@dataclass(frozen=True, slots=True)
class Made:
    """A pattern that is built at run time; `where` names its function."""

    where: str


class _Source:
    """One module: its syntax tree, and its names for `re` and the functions of `re`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        self.modules: set[str] = set()
        self.functions: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                self.modules |= {one.asname or one.name for one in node.names if one.name in MODULES}
            elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
                self.functions |= {one.asname or one.name: one.name for one in node.names}

    @property
    def name(self) -> str:
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def function(self, call: ast.Call) -> str | None:
        """The function of `re` that is called, if one is."""
        func = call.func
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
            known = func.value.id in self.modules and func.attr in ("compile", *USES)
            return func.attr if known else None
        found = self.functions.get(func.id) if isinstance(func, ast.Name) else None
        return found if found in ("compile", *USES) else None

    def value(self, node: ast.expr) -> Any:
        """The value of an expression of module-level names; NameError if it needs local names."""
        code = compile(ast.Expression(node), str(self.path), "eval")
        try:
            return eval(code, {"re": re})  # evaluates only the project's own source, in a test
        except NameError:
            return eval(code, vars(importlib.import_module(self.name)))


def patterns(paths: list[Path] | None = None) -> Iterator[Pattern | Made]:
    """Each regular expression of `paths`, all modules by default, once for each place."""
    for path in modules() if paths is None else paths:
        source = _Source(path)
        yield from _called(source)
        yield from _declared(source)


def _called(source: _Source) -> Iterator[Pattern | Made]:
    named = _named(source)
    for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
        function = source.function(call)
        if function is None:
            continue
        where = f"{source.path}:{call.lineno}"
        uses = named.get(call, _loose(source)) if function == "compile" else frozenset({function})
        try:
            yield Pattern(where, _text(source.value(_argument(call))), _flags(source, call, function), uses)
        except NameError:
            found = _at_import(source.name).get(call.lineno, [])
            yield from (Pattern(where, text, flags, uses) for text, flags in found)
            if not found:
                yield Made(f"{source.path}:{_enclosing(source.tree, call)}")


def _argument(call: ast.Call) -> ast.expr:
    return call.args[0] if call.args else next(one.value for one in call.keywords if one.arg == "pattern")


def _text(value: Any) -> str:
    return str(value.pattern if isinstance(value, re.Pattern) else value)


def _flags(source: _Source, call: ast.Call, function: str) -> int:
    place = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(function, 2)
    given = [one.value for one in call.keywords if one.arg == "flags"] + call.args[place : place + 1]
    return int(source.value(given[0])) if given else 0


def _enclosing(tree: ast.Module, call: ast.Call) -> str:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = [one for one in functions if one.lineno <= call.lineno <= (one.end_lineno or 0)]
    return max(around, key=lambda one: one.lineno).name if around else "module"


def _declared(source: _Source) -> Iterator[Pattern]:
    """Patterns given by a keyword, as in pydantic, or under a key, as in JSON Schema."""
    for node in ast.walk(source.tree):
        pairs: list[tuple[Any, ast.expr]] = []
        if isinstance(node, ast.Call) and source.function(node) is None:
            pairs = [(one.arg, one.value) for one in node.keywords]
        elif isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            pairs = list(zip(keys, node.values, strict=True))
        for name, value in pairs:
            if name in KEYWORDS and isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp):
                text = source.value(value)
                if isinstance(text, str):
                    yield Pattern(f"{source.path}:{value.lineno}", text, 0, frozenset({"search"}))


def _named(source: _Source) -> dict[ast.Call, frozenset[str]]:
    """The uses of each pattern in a module constant, if only its methods are used."""
    found = {}
    for node in source.tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if (
            isinstance(target, ast.Name)
            and isinstance(value, ast.Call)
            and source.function(value) == "compile"
        ):
            own = target.id.startswith("_")
            trees = [source.tree, *(() if own else _trees())]
            uses = [use for tree in trees for use in _uses(tree, target.id)]
            found[value] = _loose(source) if None in uses or not uses else frozenset(filter(None, uses))
    return found


@cache
def _trees() -> tuple[ast.Module, ...]:
    here = Path(source_tree.ROOT)
    return tuple(ast.parse((here / path).read_text(encoding="utf-8")) for path in modules())


def _uses(tree: ast.Module, name: str) -> Iterator[str | None]:
    """Methods of `name` that are used; None if it is passed on as a value."""
    methods = {
        node.value: node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)
    }
    for node in ast.walk(tree):
        read = isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        if read or (isinstance(node, ast.Attribute) and node.attr == name):
            method = methods.get(node)  # type: ignore[call-overload]
            yield method if method in USES else None


def _loose(source: _Source) -> frozenset[str]:
    """Methods of patterns that the module calls on any object; `finditer` if it calls none."""
    # Calls on `re` itself or on a constant are known; `split` is also a method of texts.
    constants = {
        target.id
        for node in source.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and source.function(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    called = {
        node.attr
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and not (isinstance(node.value, ast.Name) and node.value.id in source.modules | constants)
    }
    return frozenset(called & set(USES) - {"split"}) or frozenset({"finditer"})


@cache
def _at_import(name: str) -> dict[int, list[tuple[str, int]]]:
    """Patterns that the module compiles during its import, by line; runs the module once more."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    found: dict[int, list[tuple[str, int]]] = {}
    compiles: Callable[..., Any] = re.compile

    def recorded(pattern: Any, flags: int = 0) -> Any:
        caller = sys._getframe(1)
        if caller.f_code.co_filename == spec.origin:
            found.setdefault(caller.f_lineno, []).append((_text(pattern), int(flags)))
        return compiles(pattern, flags)

    re.compile = recorded
    try:
        spec.loader.exec_module(module)
    finally:
        re.compile = compiles
    return found


_LITERAL = re.compile(
    r"(?:[(,=:\[!&|?{};]|\breturn)[ \t]{0,8}/(?![/*])"
    r"((?:\\.|\[(?:\\.|[^\]\\\n])*+\]|[^/\\\[\n])++)/([dgimsuvy]*)"
)


def page_patterns() -> Iterator[tuple[str, str, str]]:
    """Position, source and flags of each regular expression in the page's JavaScript."""
    for path in project_files():
        if path.suffix == ".js" and path.is_relative_to("conductor_admin/console"):
            for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1):
                if not line.lstrip().startswith(("//", "*", "/*")):
                    for literal in _LITERAL.finditer(line):
                        yield f"{path}:{number}", literal[1], literal[2]
