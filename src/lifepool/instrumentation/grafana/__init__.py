"""A dashboard for Grafana and alert rules for Prometheus: ``python -m lifepool.instrumentation.grafana FOLDER``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

#: What is shipped.
DASHBOARD, RULES = "lifepool-dashboard.json", "lifepool-alerts.yaml"


def write_to(folder: str | Path) -> list[Path]:
    """Copy the dashboard and the alert rules into a folder, over what is there; return where they are.

    Raises:
        OSError: If the folder can't be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in (DASHBOARD, RULES):
        target = folder / name
        target.write_text(files(__name__).joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
        written.append(target)
    return written
