"""``lifepool bench``: lifepool beside the other pools, on the user's own machine."""
