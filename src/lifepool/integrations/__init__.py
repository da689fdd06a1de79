"""Web frameworks: the pool's life as an ASGI lifespan, and its errors as HTTP responses."""
