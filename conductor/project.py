"""SETTINGS.md for commands: the catalogue, or every error in it."""

from __future__ import annotations

from dataclasses import dataclass

from conductor.errors import WrongInput
from conductor_core.catalogue import Catalogue
from conductor_core.issues import SettingsError
from conductor_core.machine import probe
from conductor_core.operator import OperatorSettings
from conductor_core.paths import ProjectPaths
from conductor_core.settings.parser import load_settings, served_catalogue


@dataclass(frozen=True, slots=True)
class Project:
    """The folder of a settings file; `catalogue` is None if the file has `faults`."""

    paths: ProjectPaths
    catalogue: Catalogue | None
    faults: tuple[str, ...] = ()


def look(settings: OperatorSettings) -> Project:
    """Read the project, with the errors of its settings."""
    paths = ProjectPaths.at(settings.settings)
    try:
        return Project(paths, load_settings(paths.settings))
    except SettingsError as error:
        return Project(paths, None, tuple(map(str, error.issues)))


def catalogue(settings: OperatorSettings) -> Catalogue:
    """Read the catalogue. Raises WrongInput with one line for each error."""
    project = look(settings)
    if project.catalogue is None:
        raise WrongInput("\n".join(project.faults))
    return project.catalogue


def placed(settings: OperatorSettings) -> Catalogue:
    """Read the catalogue for this machine's devices. Raises WrongInput, also for a row that fits nowhere."""
    try:
        return served_catalogue(settings, probe())
    except SettingsError as error:
        raise WrongInput("\n".join(map(str, error.issues))) from error
