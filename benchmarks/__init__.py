"""Benchmarks of lifepool against the other process pools, interleaved in one run.

``python -m benchmarks`` runs them; ``benchmarks/README.md`` says how to read them.
"""
