"""How much memory this process and its children really hold, in bytes."""

from __future__ import annotations

from pathlib import Path

import psutil


def proportional_set_size() -> int:
    """PSS of this process and every process below it; pages that several share count once between them."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(_pss(process.pid) for process in family)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it ended since it was listed
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
