"""The MCP server of the gateway, and the clients that start and share a gateway."""
