"""SETTINGS.md as commands see it: the catalogue, or every mistake in it."""

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
    """The folder around a settings file; `catalogue` is None where `faults` says why."""

    paths: ProjectPaths
    catalogue: Catalogue | None
    faults: tuple[str, ...] = ()


def look(settings: OperatorSettings) -> Project:
    """The project as it is, mistakes included."""
    paths = ProjectPaths.at(settings.settings)
    try:
        return Project(paths, load_settings(paths.settings))
    except SettingsError as error:
        return Project(paths, None, tuple(map(str, error.issues)))


def catalogue(settings: OperatorSettings) -> Catalogue:
    """The catalogue; WrongInput with every mistake, a line each, where there is one."""
    project = look(settings)
    if project.catalogue is None:
        raise WrongInput("\n".join(project.faults))
    return project.catalogue


def placed(settings: OperatorSettings) -> Catalogue:
    """The catalogue on this machine's devices; WrongInput too for a row that fits nowhere."""
    try:
        return served_catalogue(settings, probe())
    except SettingsError as error:
        raise WrongInput("\n".join(map(str, error.issues))) from error
