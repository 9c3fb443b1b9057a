"""Compares every byte of a row's model with its digest and repairs damaged files (`conductor pull --verify`).

Fetched files are fetched again and made files are made again; a damaged file of the user's own is only
reported.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from archives.build_context import BuildContext
from archives.fetch import bring
from archives.identity import identify
from archives.prepare import damaged_form, form_of, make, weights_lock
from archives.weights_info import Stamp
from conductor_core.catalogue import Row, RuntimeName


@dataclass(frozen=True, slots=True)
class Verified:
    """The path of a row's model; `mended` names the files that were repaired."""

    path: Path
    mended: tuple[str, ...]


def verify(row: Row, runtime: RuntimeName, build_context: BuildContext) -> Verified:
    """Compares and repairs the model of `row` and all forms made from it.

    BuildError if a repair is impossible.
    """
    build_context = replace(build_context, verify=True)
    identity = identify(row.ref, build_context)
    folder = build_context.folder(row.ref, identity)
    own, form, _ = form_of(row, runtime)
    with weights_lock(build_context.lock(folder), build_context.progress, build_context.stop):
        source = bring(row.ref, identity, build_context)
        mended = [*source.mended]
        found = folder.iterdir() if folder.exists() else ()
        forms = sorted(path for path in found if path.is_dir() and path.name != "source")
        for made in forms:
            build_context.progress.update(
                "archive", 0, None, f"comparing {made.name} of {row.ref.short_name}"
            )
            names = damaged_form(made, build_context)
            mended += [f"{made.name}/{name}" for name in names]
            if made.name == own and (names or not _is_current(made, identity, source.path, form)):
                make(row, runtime, identity, build_context)
            elif names:
                # A form of another row: its next load makes it again.
                shutil.rmtree(made)
    return Verified(source.path, tuple(mended))


def _is_current(made: Path, identity: str, source: Path, form: str) -> bool:
    """True if the stamp is valid and names this source, and not that of a folder it was copied from."""
    stamp = Stamp.read(made)
    if stamp is None or stamp.source != identity:
        return False
    return form != "folder" or stamp.path in (None, str(source))
