"""Six small services that people have, each in one file: read one, copy it, run it with ``uvicorn``."""
