"""Collect calls that wait for company, and run them as one task."""
