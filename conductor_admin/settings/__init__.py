"""Edits of SETTINGS.md: noticed while the gateway runs, and planned before they are applied."""
