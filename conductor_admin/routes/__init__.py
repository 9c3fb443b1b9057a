"""The routes of the gateway's own API, its health and its page."""
