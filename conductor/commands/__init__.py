"""The commands of `conductor`, one module each."""
