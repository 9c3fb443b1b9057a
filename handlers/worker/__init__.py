"""The worker process: its loop, its socket, and the requests in progress on it."""
