"""The lifecycle of worker sets: loads, leases, admission to memory, and edits of SETTINGS.md."""
