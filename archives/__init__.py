"""The build tool: fetches and converts weights, and packs the archives that TorchServe serves."""
