"""``lifepool top URL``: what the live page of a running server shows, in a terminal."""
