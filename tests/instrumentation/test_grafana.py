"""What is shipped for Grafana and Prometheus fits what a pool really exposes, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from lifepool import Pool
from lifepool.instrumentation.grafana import DASHBOARD, RULES, write_to
from lifepool.instrumentation.metrics import CLUSTER_METRICS, METRICS
from lifepool.instrumentation.prometheus import PrometheusHook
from lifepool.instrumentation.routing import ROUTING_METRICS
from tests import tasks
from tests.instrumentation.scrapes import Scrape, scrape

HERE = Path(__file__).parent
_NAME = re.compile(r"\blifepool_\w+\b")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")
#: What the dashboard shows. Those of clusters are exposed by pools that have one.
SHOWN = (*METRICS, *CLUSTER_METRICS, *ROUTING_METRICS)
_SELECTOR = re.compile(r"(lifepool_\w+)\{([^}]*)\}")


async def exposed() -> Scrape:
    registry = CollectorRegistry()
    async with Pool(max_workers=1) as pool:
        pool.add_hook(PrometheusHook(registry))
        await pool.run(tasks.double, 1)
        return scrape(registry)


def queries(dashboard: dict[str, object]) -> list[str]:
    panels = dashboard["panels"]
    assert isinstance(panels, list)
    return [target["expr"] for panel in panels for target in panel["targets"]]


async def test_every_metric_and_label_of_the_dashboard_and_the_rules_exists(tmp_path: Path) -> None:
    write_to(tmp_path)
    seen = await exposed()
    dashboard = json.loads((tmp_path / DASHBOARD).read_text())
    text = "\n".join(queries(dashboard)) + (tmp_path / RULES).read_text()
    samples = {name for name, _ in seen._samples}
    of_clusters = {metric.name for metric in (*CLUSTER_METRICS, *ROUTING_METRICS)}
    names = {name for name in _NAME.findall(text) if _SUFFIX.sub("", name) not in of_clusters}
    assert names - samples - {metric.name for metric in METRICS} == set()
    labels = {metric.name: {"job", *metric.labels} for metric in SHOWN}
    for name, selector in _SELECTOR.findall(text):
        base = _SUFFIX.sub("", name)
        assert set(re.findall(r"(\w+)[!=]~?", selector)) <= labels[base], selector
    used = {_SUFFIX.sub("", name) for name in _NAME.findall("\n".join(queries(dashboard)))}
    assert used == {metric.name for metric in SHOWN}, "the dashboard shows all there is"


def test_the_dashboard_is_one_that_grafana_can_load(tmp_path: Path) -> None:
    dashboard = json.loads(write_to(tmp_path)[0].read_text())
    assert dashboard["uid"] == "lifepool"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    positions = [tuple(panel["gridPos"][key] for key in "xywh") for panel in dashboard["panels"]]
    assert all(x + width <= 24 for x, _, width, _ in positions)
    cells = [(x + i, y + j) for x, y, width, height in positions for i in range(width) for j in range(height)]
    assert len(cells) == len(set(cells)), "panels overlap"
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$(\w+)", "".join(queries(dashboard)))) <= {*variables, "__rate_interval"}


def test_its_queries_are_valid(tmp_path: Path, promtool: str) -> None:
    """Prometheus' own parser reads them, as the expressions of rules."""
    expressions = queries(json.loads(write_to(tmp_path)[0].read_text()))
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(expressions)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", str(file))


def test_the_rules_are_clean_and_fire_when_they_should_and_only_then(tmp_path: Path, promtool: str) -> None:
    _, rules = write_to(tmp_path)
    shutil.copy(HERE / "lifepool-alerts.test.yaml", tmp_path)
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(rules))
    run(promtool, "test", "rules", str(tmp_path / "lifepool-alerts.test.yaml"))
    alerts = re.findall(r"- alert: (\w+)", rules.read_text())
    tested = (tmp_path / "lifepool-alerts.test.yaml").read_text()
    assert [name for name in alerts if f'alertname="{name}"' not in tested or f"alertname: {name}" not in tested] == []


def test_the_rules_test_can_fail(tmp_path: Path, promtool: str) -> None:
    _, rules = write_to(tmp_path)
    rules.write_text(rules.read_text().replace("> 0.05", "> 0.6"))
    shutil.copy(HERE / "lifepool-alerts.test.yaml", tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "lifepool-alerts.test.yaml")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "LifepoolTasksFail" in done.stdout + done.stderr


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_the_command_writes_both_and_says_where(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lifepool.instrumentation.grafana"]
    written = run(*command, str(tmp_path / "new")).splitlines()
    assert [Path(line).name for line in written] == [DASHBOARD, RULES]
    assert all(Path(line).stat().st_size > 1000 for line in written)
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2
    assert "usage:" in wrong.stderr
