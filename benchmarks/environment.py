"""Where and with what a run was made: a figure without it cannot be compared to another."""

import compileall
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.sizing import available_cpus

PACKAGES = (
    "lifepool",
    "loky",
    "pebble",
    "deadpool-executor",
    "anyio",
    "uvloop",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "pydantic",
    "mpire",
    "joblib",
    "numpy",
    "distributed",
    "ray",
    "celery",
    "redis",
)
BUSY_LOOK_S = 1.0
MOST_BUSY = 5.0  # percent of the CPUs that may be in use before a run
ROOT = Path(__file__).resolve().parent.parent
COMMAND_BOUND = 10.0  # seconds; git and sysctl answer in milliseconds


def describe() -> dict[str, object]:
    """Return CPU, system, versions, commit, date and load of this machine, ready for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpus": available_cpus(),
        "load average": os.getloadavg(),
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": package_versions(),
        "commit": commit(),
    }


def busy_percent() -> float:
    """Return how busy the CPUs are right now, in percent: before a run it should be next to nothing."""
    return psutil.cpu_percent(BUSY_LOOK_S)


def cpu_model() -> str:
    """Return the CPU's own name, or what the platform knows of it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    named = _output("sysctl", "-n", "machdep.cpu.brand_string")
    return named or platform.processor() or platform.machine()


def package_versions() -> dict[str, str | None]:
    """Return the version of each package that takes part, ``None`` where it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def commit() -> str | None:
    """Return the repository's commit, marked when the working tree differs from it."""
    head = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    if not head:
        return None
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{head}-dirty" if changed else head


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMMAND_BOUND)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def compile_sources() -> None:
    """Compile what is imported once, as an installation does, and not anew in each process that is measured."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for folder in ("src", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=2)
