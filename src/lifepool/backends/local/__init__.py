"""This host's processes: the default backend.

``backend``, ``process`` and ``channel`` run in the server; ``worker`` in the workers; ``wire`` in both.
"""
