"""The asyncio shell: it feeds events and the time to the scheduler and performs its commands. It decides nothing."""
