"""Watches SETTINGS.md: reads it when it has changed, and keeps what is wrong with it for whoever asks.

The file is looked at every LOOK_S by its size, time and inode; a change counts once it has been still for
one look, so that an editor's several writes are one edit. Reading and parsing are a thread's work: a large
table takes seconds of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from conductor_admin.settings.plan import Plan, plan_change
from conductor_core.catalogue import Catalogue
from conductor_core.files import read_bounded
from conductor_core.issues import Issue, SettingsError
from conductor_core.settings.parser import LARGEST_BYTES

log = structlog.get_logger()

LOOK_S = 0.25

Stamp = tuple[int, int, int] | None


class SettingsWatch:
    """`read` gives the catalogue of a text and its name, of the file for None; `apply` makes a plan true.

    `now` is the catalogue in force, `issues` are those of a pending broken edit.
    """

    def __init__(
        self,
        path: Path,
        now: Catalogue,
        read: Callable[[str | None, str | None], Catalogue],
        apply: Callable[[Plan], None],
    ) -> None:
        self.issues: tuple[Issue, ...] = ()
        self._path = path
        self.now = now
        self._read = read
        self._apply = apply
        self._one = asyncio.Lock()  # edits are applied one after the other
        self._applied = self._seen = _stamp(path)

    async def plan(self, text: str | None = None, name: str | None = None) -> Plan:
        """What applying `text`, or the file as it is, would change. Raises SettingsError for a broken one.

        `name` is what mistakes and warnings call the text.
        """
        catalogue = await asyncio.to_thread(self._read, text, name)
        return plan_change(self.now, catalogue)

    async def reload(self) -> Plan:
        """Apply the file as it is. Raises SettingsError for a broken one, which changes nothing."""
        async with self._one:
            return await self._reload(await asyncio.to_thread(_stamp, self._path))

    async def _reload(self, stamp: Stamp) -> Plan:
        before, self._applied, self._seen = self._applied, stamp, stamp
        try:
            plan = await self.plan()
        except asyncio.CancelledError:
            self._applied = before  # nothing was applied: the next look does it
            raise
        except SettingsError as error:
            self.issues = error.issues
            log.error("settings_broken", issues=[str(issue) for issue in error.issues])
            raise
        self.issues = ()
        self.now = plan.catalogue
        self._apply(plan)
        log.info("settings_applied", rows=dict(plan.rows))
        return plan

    async def text(self) -> str:
        """SETTINGS.md as it is on disk. Raises OSError."""
        content = await asyncio.to_thread(read_bounded, self._path, LARGEST_BYTES)
        return content.decode("utf-8", "replace")

    async def run(self) -> None:
        """Look until cancelled; a loop of its own, so that workers that answer late delay no edit."""
        while True:
            try:
                await self.look()
            except Exception:  # the outermost loop: one edit that breaks us must not be the last
                log.exception("settings_look_failed")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Reload the file if it has changed and is still again."""
        async with self._one:
            stamp = await asyncio.to_thread(_stamp, self._path)
            is_still, self._seen = stamp == self._seen, stamp
            if is_still and stamp != self._applied:
                with contextlib.suppress(SettingsError):  # kept in `issues`
                    await self._reload(stamp)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
