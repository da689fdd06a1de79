"""The pure core: it decides, and does nothing. No clock, no I/O, no randomness; see README.md."""
