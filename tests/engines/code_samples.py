"""A small program in each language: correct, with one fault, and the language's tag in a fence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """A program; `broken` differs from `code` by one fault, None if no grammar is packaged."""

    language: str
    tag: str
    code: str
    broken: str | None


def _broken(language: str, tag: str, code: str, old: str, new: str) -> Sample:
    assert old in code
    return Sample(language, tag, code, code.replace(old, new, 1))


SAMPLES = (
    _broken("python", "py", "def add(a: int, b: int) -> int:\n    return a + b\n", "int:\n", "int\n"),
    _broken(
        "javascript",
        "js",
        "const add = (a, b) => {\n  return a + b;\n};\nconsole.log(add(1, 2));\n",
        "}",
        "]",
    ),
    _broken(
        "typescript",
        "ts",
        "interface Point { x: number; y: number }\nexport const norm = (p: Point): number => p.x + p.y;\n",
        "number }",
        "number ]",
    ),
    _broken(
        "java",
        "java",
        "public static int add(int a, int b) {\n    return a + b;\n}\n",
        "return a + b",
        "return a + ",
    ),
    _broken(
        "csharp",
        "c#",
        "public string Name { get; set; }\n\npublic int Add(int a) => a + 1;\n",
        "get;",
        "get(;",
    ),
    _broken("go", "golang", "package main\n\nfunc Add(a, b int) int {\n\treturn a + b\n}\n", "{", "{{("),
    _broken(
        "rust",
        "rs",
        "pub fn add(a: i32) -> i32 {\n    let mut s = a;\n    s += 1;\n    s\n}\n",
        "s = a;",
        "s = ;",
    ),
    _broken(
        "c", "c", '#include <stdio.h>\nint main(void) {\n    printf("hi");\n    return 0;\n}\n', '");', '";'
    ),
    _broken(
        "cpp",
        "c++",
        "#include <vector>\nint main() {\n  std::vector<int> v{1, 2};\n  return v[0];\n}\n",
        "v[0]",
        "v[0",
    ),
    _broken("ruby", "rb", "def add(a, b)\n  a + b\nend\n\nputs add(1, 2)\n", "end", "}"),
    _broken(
        "php",
        "php",
        "function add(int $a): int {\n    return $a + 1;\n}\necho add(1);\n",
        "return $a",
        "return $a $",
    ),
    _broken("bash", "sh", 'set -e\nfor f in *.txt; do\n  echo "$f"\ndone\n', "done", ")"),
    _broken(
        "kotlin", "kt", "data class Point(val x: Int)\n\nfun add(a: Int): Int = a + 1\n", "a + 1", "a + + ("
    ),
    _broken("swift", "swift", "func add(_ a: Int) -> Int {\n    return a + 1\n}\n", "{", "(("),
    _broken("lua", "lua", "local function add(a, b)\n  return a + b\nend\n", "end", "}"),
    _broken("json", "json", '{"a": [1, 2]}\n', "]", "]]"),
    Sample("sql", "sql", "SELECT name FROM users WHERE id = 1;\n", None),
    Sample("html", "html", "<!DOCTYPE html>\n<html><body><p>hi</p></body></html>\n", None),
)
