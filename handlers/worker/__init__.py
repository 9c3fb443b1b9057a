"""The worker process: its loop, socket and requests."""
