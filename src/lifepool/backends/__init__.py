"""Run tasks: each backend offers workers with slots, says what it can do, and performs commands."""
