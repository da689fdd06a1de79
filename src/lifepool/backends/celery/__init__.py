"""Carry calls by Celery: tasks of a Celery queue, which real Celery workers take; outcomes come home beside it."""
