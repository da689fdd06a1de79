"""A small app to deploy: replace it by yours."""
