"""Whose count of out-of-memory kills is read, and for how long one of them explains a worker's death."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool._host.oom import LOOK_EVERY_S, OomWatch
from tests.faults.inside import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

V2 = "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
VMSTAT = "nr_free_pages 1\noom_kill {}\n"


class Kernel:
    """A file system with counts of victims."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._counts: dict[str, int] = {}

    def linux(self, cgroup: str, mount: str) -> None:
        self.write("proc/self/cgroup", cgroup + "\n")
        self.write("proc/self/mountinfo", mount + "\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def counts(self, name: str, form: str, start: int = 7) -> Callable[[], None]:
        """Have a file that counts; what is returned counts one victim more."""
        self._counts[name] = start
        self.write(name, form.format(start))

        def kill() -> None:
            self._counts[name] += 1
            self.write(name, form.format(self._counts[name]))

        return kill


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_victim_explains_one_death(kernel: Kernel) -> None:
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    assert not watch.happened()
    kill()
    assert watch.happened()
    assert not watch.happened(), "the other one died of something else"


def test_two_victims_at_once_explain_two_deaths(kernel: Kernel) -> None:
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    kill()
    kill()
    assert [watch.happened() for _ in range(3)] == [True, True, False]


def test_a_victim_of_long_ago_explains_nothing(kernel: Kernel) -> None:
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    kill()
    watch.look()
    watch.look()
    assert not watch.happened()
    kill()
    assert watch.happened(), "the next one does"


def test_a_worker_may_take_seconds_to_be_gone_after_it_was_counted(kernel: Kernel) -> None:
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    kill()
    watch.look()
    assert watch.happened()
    watch.look()
    watch.look()
    assert not watch.happened()


def test_in_a_control_group_only_its_own_victims_count(kernel: Kernel) -> None:
    kernel.linux("0::/app.service", V2)
    elsewhere = [kernel.counts("proc/vmstat", VMSTAT), kernel.counts("sys/fs/cgroup/other/memory.events", EVENTS)]
    ours = kernel.counts("sys/fs/cgroup/app.service/memory.events", EVENTS)
    watch = OomWatch(kernel.root)
    for kill in elsewhere:
        kill()
    assert not watch.happened()
    ours()
    assert watch.happened()


def test_the_group_that_memory_is_counted_for_may_be_an_ancestor(kernel: Kernel) -> None:
    kernel.linux("0::/pod/container", V2)
    kernel.counts("proc/vmstat", VMSTAT)
    kill = kernel.counts("sys/fs/cgroup/pod/memory.events", EVENTS)
    watch = OomWatch(kernel.root)
    kill()
    assert watch.happened()


def test_version_1_counts_for_each_group_alone(kernel: Kernel) -> None:
    kernel.linux("4:memory:/docker/4f1e", V1)
    ours = kernel.counts("sys/fs/cgroup/memory/docker/4f1e/memory.oom_control", CONTROL)
    parent = kernel.counts("sys/fs/cgroup/memory/memory.oom_control", CONTROL)
    watch = OomWatch(kernel.root)
    parent()
    assert not watch.happened()
    ours()
    assert watch.happened()


def test_where_version_1_does_not_show_our_group_the_host_counts(kernel: Kernel) -> None:
    kernel.linux("4:memory:/docker/4f1e", V1)
    kernel.counts("sys/fs/cgroup/memory/memory.oom_control", CONTROL)
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    kill()
    assert watch.happened()


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", None])
def test_a_kernel_that_does_not_count_its_victims_suspects_nothing(text: str | None, kernel: Kernel) -> None:
    if text is not None:
        kernel.write("proc/vmstat", text)
    watch = OomWatch(kernel.root)
    watch.look()
    assert not watch.happened()


def test_a_count_that_can_not_be_read_for_a_moment_makes_no_victims(kernel: Kernel) -> None:
    kernel.counts("proc/vmstat", VMSTAT)
    watch = OomWatch(kernel.root)
    (kernel.root / "proc/vmstat").rename(kernel.root / "away")
    watch.look()
    watch.look()
    (kernel.root / "away").rename(kernel.root / "proc/vmstat")
    assert not watch.happened()


async def test_it_looks_every_few_seconds_until_it_is_stopped(kernel: Kernel) -> None:
    kill = kernel.counts("proc/vmstat", VMSTAT)
    watch, loop = OomWatch(kernel.root), asyncio.get_running_loop()
    kill()
    watch.follow(loop)
    timer = watch._timer
    assert timer is not None
    assert 0 < timer.when() - loop.time() <= LOOK_EVERY_S
    watch.follow(loop)  # as the timer does
    watch.stop()
    assert not watch.happened()
    assert watch._timer is None


async def test_a_pool_looks_for_as_long_as_it_lives(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.counts("proc/vmstat", VMSTAT)
    monkeypatch.setattr("lifepool.backends.local.backend.OomWatch", lambda: OomWatch(kernel.root))
    async with Pool(max_workers=1) as pool:
        watch = backend_of(pool)._oom
        assert watch._timer is not None
    assert watch._timer is None
