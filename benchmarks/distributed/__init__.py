"""Dask, Ray and Celery beside lifepool, on one machine: ``make bench-distributed``.

Each is started on the loopback interface by the measurement itself, and ended by it. They can do what lifepool can't:
run on other machines. What is measured is what that costs while one machine is enough.
"""
