"""``lifepool advise``: does it pay to run this function in the pool, and from which size on? Measured, not guessed."""
