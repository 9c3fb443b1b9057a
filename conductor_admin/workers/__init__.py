"""Worker processes: TorchServe, its start, and the liveness of what it started."""
