"""SETTINGS.md as this machine and this operator serve it: the one rule of what becomes of a table.

`conductor serve`, `conductor plan` and both builders ask here, so that all put a row on the same device.
"""

from __future__ import annotations

from conductor_core.catalogue import Catalogue
from conductor_core.machine import Machine
from conductor_core.operator import OperatorSettings
from conductor_core.paths import ProjectPaths
from conductor_core.placement import place
from conductor_core.settings import load_settings, parse_settings


def served_catalogue(
    settings: OperatorSettings, machine: Machine, text: str | None = None, name: str | None = None
) -> Catalogue:
    """The table of the operator's file, or `text` called `name` in its place, placed on `machine`.

    Raises SettingsError with every mistake, or with every row that fits nowhere inside the memory budget.
    """
    file = ProjectPaths.at(settings.settings).settings
    page = load_settings(file) if text is None else parse_settings(text, name or file.name)
    return place(page, machine, settings.memory_budget)
