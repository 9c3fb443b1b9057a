"""`python -m archives`: compile SETTINGS.md into archives/store, for TorchServe alone."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from archives.build import build_rows, write_config
from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.progress import Bars, progress_for
from conductor_core.files import fault
from conductor_core.issues import SettingsError
from conductor_core.machine import probe
from conductor_core.operator import OperatorError, operator_settings
from conductor_core.paths import ProjectPaths
from conductor_core.settings.parser import served_catalogue


@click.command()
@click.option("--settings", type=click.Path(path_type=Path), help="Settings file. [default: SETTINGS.md]")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Folder to write to. [default: archives/store]"
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    help="TorchServe's configuration file. [default: config.properties]",
)
@click.option("--bundle", is_flag=True, help="Put the weights inside the archives.")
def main(settings: Path | None, store: Path | None, config: Path | None, bundle: bool) -> None:
    """Builds one archive for each row of SETTINGS.md."""
    try:
        operator = operator_settings(settings=settings)
    except OperatorError as error:
        sys.exit(str(error))
    project = ProjectPaths.at(operator.settings)
    store = store or project.store
    try:
        with ExitStack() as stack:
            progress = progress_for()
            if isinstance(progress, Bars):
                stack.enter_context(progress)
            catalogue = served_catalogue(operator, probe())
            built = build_rows(catalogue, store, BuildContext(project, progress), bundle=bundle)
            config = config or project.root / "config.properties"
            configured = config.exists() and write_config(catalogue, config)
    except (BuildError, SettingsError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(fault(error))
    for archive in built.archives:
        if archive.changed:
            click.echo(f"{archive.path.name} {archive.version}")
    for path in built.removed:
        click.echo(f"removed {path.name}")
    if built.is_unchanged and not configured:
        click.echo(f"{len(built.archives)} archives in {store} are up to date")


if __name__ == "__main__":
    main()
