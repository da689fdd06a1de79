"""Run tasks in a worker process. No asyncio, no web framework, nothing heavy: a worker starts in milliseconds."""
