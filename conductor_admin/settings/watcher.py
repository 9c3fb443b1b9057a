"""Watches SETTINGS.md: reads it when it has changed, and keeps the list of its errors.

Size, time and inode of the file are checked every LOOK_S seconds; a change counts once two checks agree, so
that several writes of an editor are one edit. A thread reads and parses, because a large table takes seconds.
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
    """Watch of one file: `read` parses a text with a name, or the file for None; `apply` applies a plan.

    `now` is the catalogue in force, `issues` are the errors of an edit that could not be applied.
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
        """Plan the change to `text`, or to the file as it is. Raises SettingsError if it has errors.

        Errors and warnings call the text `name`.
        """
        catalogue = await asyncio.to_thread(self._read, text, name)
        return plan_change(self.now, catalogue)

    async def reload(self) -> Plan:
        """Apply the file as it is. Raises SettingsError if it has errors, and then changes nothing."""
        async with self._one:
            return await self._reload(await asyncio.to_thread(_stamp, self._path))

    async def _reload(self, stamp: Stamp) -> Plan:
        before, self._applied, self._seen = self._applied, stamp, stamp
        try:
            plan = await self.plan()
        except asyncio.CancelledError:
            self._applied = before  # nothing was applied: the next check does it
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
        """Check the file until cancelled, in a loop of its own, so that slow workers delay no edit."""
        while True:
            try:
                await self.look()
            except Exception:  # the outermost loop: one failed check must not be the last
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
