"""``lifepool check``: find in source what would block the event loop, hang or crash a pool. No user code is imported.

A file is parsed once into a `model` (scopes, dotted names, what runs when); each module of `detect` asks the model for
one family of anti-patterns and names rules of the table in ``rules.toml``; `formats` writes what was found.
"""
