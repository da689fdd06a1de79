"""Serve code that runs in a worker: its state, its resources."""
