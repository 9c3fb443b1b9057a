"""Diagnostics of a process without any text of a request: stalls, errors, the output of libraries."""
