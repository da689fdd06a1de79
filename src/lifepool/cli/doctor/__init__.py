"""``lifepool doctor``: what this machine offers a pool, whether the engine works here, and what to fix."""
