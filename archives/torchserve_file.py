"""Writes which archives TorchServe alone loads: one line of config.properties, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archives.errors import BuildError

BEGIN = "# >>> written by `make archives`: the resident rows of SETTINGS.md"
END = "# <<< end of what `make archives` writes"
_NOTHING = "# no row is resident (Stay Loaded true)"


def write_load_models(config: Path, archives: Sequence[str]) -> bool:
    """Let `config` load `archives` (file names in the model store); False where it says so already.

    Everything outside the marks is the operator's. BuildError where the marks are not there once each.
    """
    text = config.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in tail or END in tail:
        raise BuildError(f"{config.name} has lost its marks", f"write a line {BEGIN!r} and a line {END!r}")
    line = f"load_models={','.join(archives)}" if archives else _NOTHING
    new = f"{head}{BEGIN}\n{line}\n{END}{tail}"
    if new == text:
        return False
    temporary = config.with_name(f".{config.name}.new")
    temporary.write_text(new)
    temporary.chmod(config.stat().st_mode & 0o777)
    temporary.replace(config)
    return True
