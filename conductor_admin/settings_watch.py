"""Watches SETTINGS.md: reads it when it has changed, and keeps what is wrong with it for whoever asks.

The file is looked at every LOOK_S by its size, time and inode; a change counts once it has been still for
one look, so that an editor's several writes are one edit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from conductor_admin.settings_plan import Plan, plan_change
from conductor_core.catalogue import Catalogue
from conductor_core.issues import Issue, SettingsError

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
        self._applied = self._seen = _stamp(path)

    def plan(self, text: str | None = None, name: str | None = None) -> Plan:
        """What applying `text`, or the file as it is, would change. Raises SettingsError for a broken one.

        `name` is what mistakes and warnings call the text.
        """
        return plan_change(self.now, self._read(text, name))

    def reload(self) -> Plan:
        """Apply the file as it is. Raises SettingsError for a broken one, which changes nothing."""
        self._applied = self._seen = _stamp(self._path)
        try:
            plan = self.plan()
        except SettingsError as error:
            self.issues = error.issues
            log.error("settings_broken", issues=[str(issue) for issue in error.issues])
            raise
        self.issues = ()
        self.now = plan.catalogue
        self._apply(plan)
        log.info("settings_applied", rows=dict(plan.rows))
        return plan

    def text(self) -> str:
        """SETTINGS.md as it is on disk."""
        return self._path.read_text(encoding="utf-8")

    async def run(self) -> None:
        """Look until cancelled; a loop of its own, so that workers that answer late delay no edit."""
        while True:
            try:
                self.look()
            except Exception:  # the outermost loop: one edit that breaks us must not be the last
                log.exception("settings_look_failed")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Reload the file if it has changed and is still again."""
        stamp = _stamp(self._path)
        is_still, self._seen = stamp == self._seen, stamp
        if is_still and stamp != self._applied:
            try:
                self.reload()
            except SettingsError:
                return


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
