"""Checks of tables: cells, columns, statistics and charts."""
