"""Clients of `/mcp`, stdio and programs, which share one gateway."""
