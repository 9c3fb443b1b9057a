"""The worker processes and the TorchServe that starts them: its token, its guard, its watch, the logs."""
