"""`conductor build` and `conductor pull`: archives for TorchServe alone, and the weights of rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from archives.build import build_rows, pull_rows, verify_rows, write_config
from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.progress import Bars, progress_for
from conductor.errors import CommandError, WrongInput
from conductor.options import operator_options, resolve
from conductor.project import catalogue, placed
from conductor_core.catalogue import Catalogue, Row
from conductor_core.files import fault
from conductor_core.issues import close_name
from conductor_core.paths import ProjectPaths


@click.command()
@operator_options("settings")
@click.option("--bundle", is_flag=True, help="Put the weights inside the archives.")
def build(bundle: bool, **given: Any) -> None:
    """Build archives/store/CATEGORY.mar for every row, to be used with TorchServe alone."""
    settings = resolve(**given)
    paths, table = ProjectPaths.at(settings.settings), placed(settings)
    with build_context(paths) as shop:
        built = build_rows(table, paths.store, shop, bundle=bundle)
        config = paths.root / "config.properties"
        if config.exists():
            write_config(table, config)
    for archive in built.archives:
        click.echo(f"{archive.path.name} {archive.version} {'built' if archive.changed else 'is up to date'}")
    for path in built.removed:
        click.echo(f"{path.name} removed: it is not in SETTINGS.md")


@click.command()
@click.argument("categories", nargs=-1)
@operator_options("settings")
@click.option("--refresh", is_flag=True, help="Ask the hub for the current commit of each branch.")
@click.option(
    "--verify", is_flag=True, help="Check every file against its digest, and download damaged files again."
)
def pull(categories: tuple[str, ...], refresh: bool, verify: bool, **given: Any) -> None:
    """Download the weights of CATEGORIES, or of every row, and print their paths."""
    settings = resolve(**given)
    table = placed(settings) if verify else catalogue(settings)
    rows = chosen_rows(table, categories)
    with build_context(ProjectPaths.at(settings.settings), refresh=refresh) as shop:
        if verify:
            for row, one in zip(rows, verify_rows(table, rows, shop), strict=True):
                outcome = (
                    f"was damaged and has been repaired: {', '.join(one.mended)}"
                    if one.mended
                    else "is complete"
                )
                click.echo(f"{row.slug} {one.path} {outcome}")
            return
        found = pull_rows(rows, shop)
    for row, path in zip(rows, found, strict=True):
        click.echo(f"{row.slug} {path}")


@contextmanager
def build_context(paths: ProjectPaths, *, refresh: bool = False) -> Iterator[BuildContext]:
    """Make a build context with progress on standard error; turn a BuildError into a CommandError."""
    progress = progress_for(sys.stderr)
    try:
        if isinstance(progress, Bars):
            with progress:
                yield BuildContext(paths, progress, refresh=refresh)
        else:
            yield BuildContext(paths, progress, refresh=refresh)
    except BuildError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(fault(error)) from error


def chosen_rows(table: Catalogue, categories: Sequence[str]) -> tuple[Row, ...]:
    """The rows of these slugs, all rows without slugs. Raises WrongInput for an unknown slug."""
    for slug in categories:
        if table.row(slug) is None:
            known = [row.slug for row in table.rows]
            raise WrongInput(f"there is no category {slug!r}{close_name(slug, known)}; see: conductor list")
    return tuple(row for row in table.rows if not categories or row.slug in categories)
