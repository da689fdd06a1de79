"""Where tasks run. Each backend offers workers with slots, says what it can do, and does what it is told."""
