"""Engines: one module for each kind of task, its prompt before the model and its checks after it."""
