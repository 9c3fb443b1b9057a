"""`conductor plan`."""

from __future__ import annotations

from conductor.commands.plan import plan_lines


def test_plan_says_what_changes_what_fits_and_what_is_never_together() -> None:
    found = {
        "added": ["poetry"],
        "rebuilt": ["chat", "code"],
        "changed": [],
        "removed": [],
        "untouched": ["legal"],
        "warnings": ["SETTINGS.md:9: a row of dots or empty cells is skipped"],
        "resident_fits": False,
        "memory": {"cpu": {"budget": 8 * 10**9, "resident": 9 * 10**9}},
        "drains_first": ["chat"],
        "never_together": [["chat", "poetry"]],
    }
    assert plan_lines(found) == [
        "added: poetry",
        "rebuilt: chat, code",
        "untouched: legal",
        "resident on cpu: 9 GB of 8 GB",
        "the sets that stay loaded do not fit together",
        "chat: ends before its new version is loaded",
        "never loaded together: chat and poetry",
        "warning: SETTINGS.md:9: a row of dots or empty cells is skipped",
    ]
