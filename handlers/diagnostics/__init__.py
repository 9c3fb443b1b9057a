"""Diagnostics of a process, without texts of requests: stalls, errors."""
