"""The tools of the MCP server: what a client may call, checked, run and reported."""
