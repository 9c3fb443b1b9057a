"""The gateway: routes of HTTP above, worker sets and their memory below."""
