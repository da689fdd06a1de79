"""How far a cluster carries: a model of calls on their way, fitted to runs on this machine, and taken to many nodes.

``python -m benchmarks.scale measure`` runs 1, 2, 4 and 8 real nodes on Celery and Redis and writes ``runs.json``;
``python -m benchmarks.scale page`` fits the model to them and writes the plots and the tables of ``docs/scale.md``.
"""
