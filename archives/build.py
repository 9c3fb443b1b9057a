"""Builds archives: `<category>.mar` of each row for TorchServe alone, `<set>-<version>.mar` for the gateway.

TorchServe without the gateway loads the resident rows; one line of config.properties between two marks lists
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archives.archive import write_archive
from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.fetch import fetch
from archives.identity import identify
from archives.prepare import check, prepare, prepared, weights_lock
from archives.verify import Verified, verify
from archives.worker_archive import WorkerPlan, archive_spec, contexts_of, worker_config
from conductor_core.catalogue import Catalogue, Row, StayLoaded, WorkerSet

BEGIN = "# >>> written by `make archives`: the resident rows of SETTINGS.md"
END = "# <<< end of what `make archives` writes"
_NOTHING = "# no row is resident (Stay Loaded true)"

CONVERSATION = "conversational_chat"
"""The engine that uses the default persona; the others have a system prompt of their own."""


def write_load_models(config: Path, archives: Sequence[str]) -> bool:
    """Makes `config` load `archives` (file names in the model store); False if it does already.

    Text outside the marks is not changed. BuildError unless each mark is there exactly once.
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


@dataclass(frozen=True, slots=True)
class Built:
    """One archive of a build.

    `name` is the model's name in TorchServe, `memory` the bytes that all its workers take at most, `context`
    in tokens; `identity` identifies the content of the weights, `contexts` is as in `KnownWeights`.
    `changed` is True if this build wrote the archive or made the weights.
    """

    path: Path
    name: str
    version: str
    model_path: Path
    memory: int
    context: int | None
    changed: bool
    identity: str = ""
    contexts: float | None = None


@dataclass(frozen=True, slots=True)
class BuiltRows:
    """The archives that `build_rows` made or kept in the store; `removed` are archives of deleted rows."""

    archives: tuple[Built, ...]
    removed: tuple[Path, ...]

    @property
    def is_unchanged(self) -> bool:
        return not self.removed and not any(built.changed for built in self.archives)


def build_set(
    worker_set: WorkerSet, store: Path, build_context: BuildContext, *, system: str | None = None
) -> Built:
    """Makes `<store>/<set>-<version>.mar` and its weights; changes no other file of the store.

    Blocks during downloads and conversion; call it in a thread. Raises BuildError, or BuildCancelled once
    `build_context.stop` is set.
    """
    return _build(WorkerPlan.of(worker_set, system), store, "{name}-{version}.mar", build_context)


def build_rows(
    catalogue: Catalogue, store: Path, build_context: BuildContext, *, bundle: bool = False
) -> BuiltRows:
    """Makes `<store>/<category>.mar` of every row and deletes archives of rows that no longer exist.

    The BuildError of the first row that cannot be built ends the build.
    """
    plans = []
    for row in catalogue.rows:
        worker_set = catalogue.set_of(row.slug)
        plan = WorkerPlan(
            name=row.slug,
            row=row,
            runtime=worker_set.runtime,
            device=worker_set.device,
            workers=row.workers,
            context=row.context,
            system=catalogue.persona if row.engine == CONVERSATION else None,
            bundle=bundle,
            memory=worker_set.declared_memory,
        )
        plans.append(plan)
    built = tuple(_build(plan, store, "{name}.mar", build_context) for plan in plans)
    kept = {item.path for item in built}
    stale = tuple(sorted(path for path in store.glob("*.mar") if path not in kept))
    for path in stale:
        path.unlink()
    return BuiltRows(built, stale)


def pull_rows(rows: Sequence[Row], build_context: BuildContext) -> list[Path]:
    """Downloads the models of the rows without converting them; returns their paths in order."""
    paths = []
    for row in rows:
        with _naming(row, build_context):
            identity = identify(row.ref, build_context)
            lock = build_context.lock(build_context.folder(row.ref, identity))
            with weights_lock(lock, build_context.progress, build_context.stop):
                paths.append(fetch(row.ref, identity, build_context))
    return paths


def verify_rows(catalogue: Catalogue, rows: Sequence[Row], build_context: BuildContext) -> list[Verified]:
    """Compares all bytes of the rows' models with their digests and repairs damaged files.

    Results are in order.
    """
    known: dict[tuple[object, ...], Verified] = {}
    for row in rows:
        key = _weights_key(catalogue, row)
        if key not in known:
            with _naming(row, build_context):
                known[key] = verify(row, catalogue.set_of(row.slug).runtime, build_context)
    return [known[_weights_key(catalogue, row)] for row in rows]


def check_set(worker_set: WorkerSet, build_context: BuildContext) -> None:
    """Raises BuildError if the weights of a set that was built are damaged. Call it in a thread."""
    row = worker_set.first
    with _naming(row, build_context):
        found = prepared(row, worker_set.runtime, identify(row.ref, build_context), build_context)
        if found is not None:
            check(row, worker_set.runtime, found, build_context)


def _weights_key(catalogue: Catalogue, row: Row) -> tuple[object, ...]:
    return row.ref, row.precision, catalogue.set_of(row.slug).runtime


def write_config(catalogue: Catalogue, config: Path) -> bool:
    """Makes TorchServe without the gateway load the resident rows; True if `config` changed."""
    resident = [f"{row.slug}.mar" for row in catalogue.rows if row.stay_loaded is StayLoaded.TRUE]
    return write_load_models(config, resident)


@contextmanager
def _naming(row: Row, build_context: BuildContext) -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        raise error.at(row, build_context.project.settings.name) from error


def _build(plan: WorkerPlan, store: Path, file: str, build_context: BuildContext) -> Built:
    with _naming(plan.row, build_context):
        prepared = prepare(plan.row, plan.runtime, build_context)
        spec = archive_spec(plan, prepared)
        path = store / file.format(name=spec.name, version=spec.version)
        written = write_archive(spec, path)
    if written:
        build_context.progress.update("archive", 1, 1, f"wrote {path.name}")
    config = worker_config(plan, prepared)
    return Built(
        path=path,
        name=plan.name,
        version=config.version,
        model_path=prepared.path,
        memory=config.memory or 0,
        context=config.context,
        changed=written or prepared.made,
        identity=prepared.identity,
        contexts=contexts_of(config, prepared),
    )
