"""Clients of `/mcp`: stdio and programs, over one gateway that the clients of a machine share."""
