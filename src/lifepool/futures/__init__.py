"""``concurrent.futures`` over a pool: change one import.

::

    from lifepool.futures import ProcessPoolExecutor

    with ProcessPoolExecutor() as executor:
        for text, score in zip(texts, executor.map(score_text, texts)):
            ...

What differs from the standard library's executor:

- The executor never breaks. A worker that dies fails the one future whose task it ran, and is replaced. The error is a
  ``lifepool.WorkerLost``, and a ``BrokenProcessPool`` too: code that catches that works, and need not make a new
  executor.
- ``Future.cancel()`` also takes back a running task: it is interrupted in its worker. So is what ``map`` had under way
  when its timeout passed. An item that fails cancels only those that no worker has begun, as in the standard library.
- Workers are never copies of this process (no ``fork``); an ``mp_context`` that would is not used, with a warning.
- ``LIFEPOOL_<NAME>`` settings apply, such as ``LIFEPOOL_TIMEOUT``; the queue has no limit.
- At interpreter exit, work that was not waited for is waited for, as in the standard library, and every 30 s a warning
  says what is left. Ctrl-C cancels it, and so does a program, or a ``with`` block, that is left by Ctrl-C.
  ``LIFEPOOL_DRAIN_TIMEOUT``, if it is set, limits that wait.

On an event loop, use ``lifepool.Pool`` itself: it does without the thread that this executor needs.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from lifepool.futures.errors import TaskNotPicklable, WorkerLost, WorkerStartError
from lifepool.futures.executor import ProcessPoolExecutor

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor", "TaskNotPicklable", "WorkerLost", "WorkerStartError"]
