"""A service under more requests than it can serve, from the outside: an open-loop generator, and what was answered."""
