"""Test an app that has a pool: without processes, by a script, or with real workers and a check for leaks.

::

    def test_a_late_answer_is_a_504(client_with, script_pool):
        script = script_pool(main.pool)
        script.next(count_words).times_out()
        ...

``inline(pool)`` runs tasks in the test's own process. ``scripted(pool)`` does too, and lets the test say how calls end:
with a value, an error, a timeout, a lost worker or a refusal. Both take an existing pool, so the app stays as it is.
A pool that neither was used on runs with real workers. ``no_open_pools`` fails if a test leaves one running.

The pytest plugin of the same package is found by pytest itself; see ``lifepool.testing.plugin``.
"""

from lifepool.testing.clock import FakeClock
from lifepool.testing.leaks import no_open_pools
from lifepool.testing.pause import Pause
from lifepool.testing.pools import inline, scripted
from lifepool.testing.script import Call, Script

__all__ = ["Call", "FakeClock", "Pause", "Script", "inline", "no_open_pools", "scripted"]
