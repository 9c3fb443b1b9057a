"""Observation: logs, metrics, traces and spans of generations."""
