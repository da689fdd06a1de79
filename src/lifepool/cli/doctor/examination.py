"""Examine the machine, the engine and the user's pool, and report, section by section."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lifepool.cli.check.command import read
from lifepool.cli.check.inventory import Inventory
from lifepool.cli.doctor import machine, software
from lifepool.cli.doctor.cluster import check_cluster
from lifepool.cli.doctor.findings import Finding, Report, Section, fail
from lifepool.cli.doctor.machine import Machine
from lifepool.cli.doctor.selftest import check_engine
from lifepool.cli.doctor.source import MOST_APPS, check_source
from lifepool.cli.doctor.target import examine
from lifepool.cli.isolation import run_isolated

if TYPE_CHECKING:
    from pathlib import Path

GRACE_S = 3.0
"""For what is bounded inside to end by itself, before it is killed."""


def diagnose(
    target: str | None = None, timeout: float = 60.0, here: Machine | None = None, *, is_factory: bool = False
) -> Report:
    """Look at the machine, try the engine, and check the user's pool if one is named.

    Args:
        target: ``module:pool`` or ``module:app``.
        timeout: Seconds for the target: its import, and the start of a worker.
        here: Another machine to look at; None: this one.
        is_factory: Whether the target is a function that makes the app.
    """
    here = here or Machine()
    sections = [
        Section("CPUs", tuple(machine.check_cpus(here))),
        Section("Memory", tuple(machine.check_memory(here))),
        Section("Limits", tuple(machine.check_limits(here))),
        Section("Processes", tuple(machine.check_processes(here))),
        Section("Versions", tuple(software.check_versions())),
        Section("Variables", tuple(software.check_environment(here.environ))),
        Section("Engine", tuple(asyncio.run(_engine()))),
    ]
    if target is not None:
        sections.append(Section(target, examine_isolated(target, timeout, is_factory=is_factory)))
    return Report(tuple(section for section in sections if section.findings))


def diagnose_project(folder: Path, timeout: float = 60.0, here: Machine | None = None) -> Report:
    """Do what `diagnose` does for each app of a project, and say what is wrong with its pools in the source.

    Args:
        folder: Where the project is. Its source is read; only modules with an app that uses lifepool are imported.
        timeout: Seconds for each app.
        here: Another machine to look at; None: this one.
    """
    reading = read(folder)
    inventory = Inventory(reading.project, folder)
    apps = [app for app in inventory.apps if app.has_lifepool]
    sections = [Section(f"Source in {folder}", tuple(check_source(reading.report, inventory, folder)))]
    for app in apps[:MOST_APPS]:
        findings = examine_isolated(app.name, timeout, app.folder, is_factory=app.is_factory)
        sections.append(Section(f"{app.name} ({app.path}:{app.line})", findings))
    return Report((*diagnose(here=here).sections, *sections))


def diagnose_cluster(backend: str, timeout: float = 60.0, here: Machine | None = None) -> Report:
    """Try the whole path to a cluster: its URL, its broker, its nodes, and calls there and back.

    Args:
        backend: Its URL.
        timeout: Seconds for each step.
        here: Another machine to look at; None: this one.
    """
    here = here or Machine()

    async def check() -> tuple[Finding, ...]:
        return tuple([finding async for finding in check_cluster(backend, timeout)])

    sections = [
        Section("Versions", tuple(software.check_versions())),
        Section("Variables", tuple(software.check_environment(here.environ))),
        Section("Cluster", asyncio.run(check())),
    ]
    return Report(tuple(section for section in sections if section.findings))


async def _engine() -> list[Finding]:
    return [finding async for finding in check_engine()]


def examine_isolated(
    target: str, timeout: float, cwd: Path | None = None, *, is_factory: bool = False
) -> tuple[Finding, ...]:
    """Check the user's pool in a process of its own, which is killed if it takes too long."""
    request = {"target": target, "timeout": timeout, "is_factory": is_factory}
    outcome = run_isolated(examine, request, timeout + GRACE_S, cwd)
    if outcome.timed_out:
        seen = f"importing it did not end within {timeout + GRACE_S:g} s"
        fix = 'put what starts a server or waits under `if __name__ == "__main__":`, or give more time with --timeout'
        return (fail("import", seen, fix),)
    if outcome.error is not None:
        return (fail("import", outcome.error, "the process that imported it died: see what it printed"),)
    return tuple(Finding(**finding) for finding in outcome.answer["findings"])
