"""Connect a pool to web frameworks: its life as an ASGI lifespan, its errors as HTTP responses."""
