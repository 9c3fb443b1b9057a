"""Worker processes: TorchServe, which starts them, the client of each, and their liveness."""
