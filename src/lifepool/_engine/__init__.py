"""Run the scheduler on asyncio: feed it events and the time, and perform its commands. Nothing is decided here."""
