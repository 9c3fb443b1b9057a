"""The sandbox: children without files, network and memory of ours that run an engine's checks."""
