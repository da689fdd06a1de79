"""A routed scheduler with its clock and its alarm, one line for each command."""

from __future__ import annotations

from typing import Any

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import invariants
from lifepool._core.routing import RoutedScheduler
from lifepool.errors import BackendUnavailable
from tests.core.script import Script, limits_for

CLUSTER = {"slots": 1000, "can_kill": False, "can_interrupt": True, "can_retract": False, "numbering": -1}


def check(scheduler: RoutedScheduler) -> None:
    """Check both schedulers, and that no task is with both."""
    for side in (scheduler.local, scheduler.remote):
        invariants.check(side)
    both = scheduler.local._table.tasks.keys() & scheduler.remote._table.tasks.keys()
    assert not both
    assert all(worker > 0 for worker in scheduler.local.fleet.workers)
    assert all(worker < 0 for worker in scheduler.remote.fleet.workers)


class RoutedScript(Script):
    """Two schedulers behind one. Every step checks the invariants."""

    scheduler: RoutedScheduler  # type: ignore[assignment]

    def __init__(self, *, prefers_remote: bool, target_wait: float = 0.1, **limits: Any) -> None:
        super().__init__()
        there = limits_for(**{"max_queue": limits.get("max_queue", 10), **CLUSTER})
        self.scheduler = RoutedScheduler(
            limits_for(**limits),
            there,
            prefers_remote=prefers_remote,
            target_wait=target_wait,
            random=lambda: 0.5,
        )

    def feed(self, event: on.Event) -> list[str]:
        commands = self.scheduler.handle(event, self.now)
        check(self.scheduler)
        return [line for command in commands if (line := self._line(command))]

    def _line(self, command: do.Command) -> str:
        line = super()._line(command)
        return "" if isinstance(command, do.SetTimer) else line

    def offer(self, task: int, timeout: float | None = None, name: str = "f", **options: Any) -> list[str]:
        """Do what a submission does: try one place after the other."""
        refusals = []
        for remote in self.scheduler.order(timeout, name, self.now):
            refusal = self.scheduler.refusal(timeout, options.get("fair_key"), name, remote=remote)
            if refusal is None:
                return self.submit(task, timeout=timeout, name=name, remote=remote, **options)
            refusals.append(type(refusal).__name__)
        return refusals

    def prepared(self, task: int, *, succeeded: bool = True) -> list[str]:
        return self.feed(on.TaskPrepared(task, succeeded))

    def resized(self, slots: int) -> list[str]:
        return self.feed(on.WorkerResized(-1, slots))

    def reach(self, why: str | None) -> list[str]:
        return self.feed(on.ReachChanged(why))

    def gives_back(self, task: int) -> list[str]:
        return self.feed(on.TaskRefused(-1, task, BackendUnavailable("the cluster takes no calls: it was cut")))

    def loses(self, task: int, **how: Any) -> list[str]:
        return self.feed(on.TaskLost(-1, task, on.WorkerExited(-1, **({"reason": "its node is gone"} | how))))


def up(*, prefers_remote: bool, slots: int = 2, **limits: Any) -> RoutedScript:
    """Return a pool whose workers are ready, and whose cluster has so many slots."""
    script = RoutedScript(prefers_remote=prefers_remote, **limits)
    said = script.start()
    assert [line for line in said if "started" in line] == []
    script.ready(-1)
    for worker in list(script.scheduler.local.fleet.workers):
        said = script.ready(worker)
    assert "started" in said
    script.resized(slots)
    return script
