"""The files in deploy/ are right: they agree with each other, with the code, and with their schemas."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from asgi_lifespan import LifespanManager

from lifepool._config import checks
from lifepool.config import describe_settings
from lifepool.instrumentation.metrics import METRICS
from tests.deploy.files import DEPLOY, Program, compose, dockerfile_command, manifests, of_kind, programs, unit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

PROGRAMS = programs()
WEB = [each for each in PROGRAMS if each.words[0] == "uvicorn"]
NODES = [each for each in PROGRAMS if each.words[0] == "lifepool"]
#: The least reserve between the end of a drain and SIGKILL, in seconds.
RESERVE_S = 5.0


def by_where(program: Program) -> str:
    return program.where


def test_there_is_a_web_process_and_a_node_in_each_of_the_three_ways() -> None:
    assert (len(WEB), len(NODES)) == (3, 3)


# -- the time until SIGKILL --------------------------------------------------------------------------


@pytest.mark.parametrize("node", NODES, ids=by_where)
def test_a_node_has_time_to_finish_what_it_runs(node: Program) -> None:
    drain = node.option("--drain-timeout")
    assert drain is not None, "say it, so that it can be compared"
    assert node.stop_s >= node.delay_s + float(drain) + RESERVE_S


@pytest.mark.parametrize("web", WEB, ids=by_where)
def test_a_web_process_has_time_for_its_requests_and_its_tasks(web: Program) -> None:
    requests, drain = web.option("--timeout-graceful-shutdown"), web.environment["LIFEPOOL_DRAIN_TIMEOUT"]
    assert requests is not None
    assert web.stop_s >= web.delay_s + float(requests) + float(drain) + RESERVE_S


# -- commands and variables --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of the programs, as they say themselves."""
    found = {}
    for name, words in (("lifepool", ["worker", "--help"]), ("uvicorn", ["--help"])):
        command, environment = [sys.executable, "-m", name, *words], {"COLUMNS": "200"}
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=60)
        found[name] = set(re.findall(r"--[a-z][a-z-]+", said.stdout))
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=by_where)
def test_every_option_of_a_command_exists(program: Program, options: dict[str, set[str]]) -> None:
    used = {word for word in program.words if word.startswith("--")}
    assert used <= options[program.words[0]]
    assert program.words[:2] in (["lifepool", "worker"], ["uvicorn", "shop.main:app"])


def test_every_variable_is_a_setting() -> None:
    known = {setting.variable for setting in describe_settings()} | {"LIFEPOOL_SECRET"}
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    used = {name for text in texts for name in re.findall(r"LIFEPOOL_[A-Z_]+", text)}
    assert used <= known
    assert {"LIFEPOOL_BACKEND", "LIFEPOOL_SECRET", "LIFEPOOL_FALLBACK"} <= used


@pytest.mark.parametrize("web", WEB, ids=by_where)
def test_values_are_what_settings_may_be(web: Program) -> None:
    settings = {setting.variable: setting for setting in describe_settings()}
    for name, text in web.environment.items():
        if name in settings and name != "LIFEPOOL_SECRET":
            assert settings[name].find({}, {name: text})[1] == name


def test_the_image_runs_what_compose_runs_and_has_what_it_copies() -> None:
    assert dockerfile_command() == compose()["services"]["web"]["command"]
    for source in re.findall(r"^COPY (\S+) ", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert (DEPLOY / source).exists()
    (extras,) = re.findall(r"lifepool\[(.*)\]", (DEPLOY / "requirements.txt").read_text())
    assert set(extras.split(",")) == {"celery", "cli", "fastapi", "prometheus"}


# -- the app -----------------------------------------------------------------------------------------


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    monkeypatch.syspath_prepend(str(DEPLOY))
    monkeypatch.setenv("LIFEPOOL_BACKEND", "local")
    monkeypatch.setenv("LIFEPOOL_MAX_WORKERS", "1")
    main: Any = importlib.import_module("shop.main")
    yield main.app
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


async def test_probes_and_scrapes_ask_for_what_the_app_has(app: FastAPI) -> None:
    (web,) = [each for each in of_kind("Deployment") if each["metadata"]["name"] == "shop-web"]
    template = web["spec"]["template"]
    (container,) = template["spec"]["containers"]
    probes = [container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == ["/readyz", "/readyz", "/livez"]
    paths = (*probes, template["metadata"]["annotations"]["prometheus.io/path"])
    transport = httpx.ASGITransport(app)
    async with LifespanManager(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        assert [(await client.get(path)).status_code for path in paths] == [200] * 4
        assert (await client.get("/total", params={"prices": "1.5,2"})).json() == {"total": 3.5}
    assert "localhost:8000/readyz" in str(compose()["services"]["web"]["healthcheck"]["test"])


def test_nodes_are_scaled_by_a_metric_of_this_pool() -> None:
    (scaled,) = of_kind("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (name,) = re.findall(r"\blifepool_\w+", trigger["metadata"]["query"])
    assert name.removesuffix("_bucket") in {metric.name for metric in METRICS if metric.kind == "histogram"}
    (pool,) = re.findall(r'pool="(\w+)"', trigger["metadata"]["query"])
    assert f'Pool(name="{pool}")' in (DEPLOY / "shop" / "main.py").read_text()
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes texts alone"
    assert scaled["spec"]["scaleTargetRef"]["name"] in {each["metadata"]["name"] for each in of_kind("Deployment")}


# -- the manifests agree with each other -------------------------------------------------------------


def test_selectors_find_their_pods_and_services_their_ports() -> None:
    labels = {}
    for deployment in of_kind("Deployment"):
        template = deployment["spec"]["template"]
        labels[deployment["metadata"]["name"]] = template["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    for service in of_kind("Service"):
        name = service["metadata"]["name"]
        assert service["spec"]["selector"] == labels[name]
        (deployment,) = [each for each in of_kind("Deployment") if each["metadata"]["name"] == name]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] in labels.values()


def test_the_broker_is_where_the_app_looks_for_it() -> None:
    (kustomization,) = of_kind("Kustomization")
    (address,) = [text for each in kustomization["configMapGenerator"] for text in each["literals"]]
    assert address == "LIFEPOOL_BACKEND=celery+redis://redis:6379/0"
    assert compose()["services"]["web"]["environment"]["LIFEPOOL_BACKEND"] == address.partition("=")[2]
    assert checks.backend(address.partition("=")[2])
    assert {each["metadata"]["name"] for each in of_kind("Service")} >= {"redis"}
    sources = [
        next(iter(each.values()))["name"]
        for deployment in of_kind("Deployment")
        for each in deployment["spec"]["template"]["spec"]["containers"][0].get("envFrom", ())
    ]
    assert set(sources) == {"lifepool"}
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert files - {"kustomization.yaml"} == set(kustomization["resources"])


def test_nobody_can_start_it_without_a_secret() -> None:
    for name in ("web", "worker"):
        assert ":?" in compose()["services"][name]["environment"]["LIFEPOOL_SECRET"]
    assert of_kind("Secret") == [], "a secret is made by a command, not kept in a file"


# -- what others say of them -------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.stem)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    """It looks for programs, users and files: those that this machine has stand for them."""
    text = re.sub(r"/srv/shop/\.venv/bin/\w+", sys.executable, path.read_text())
    text = re.sub(r"(?m)^(User|WorkingDirectory|EnvironmentFile)=.*\n", "", text)
    copy = tmp_path / path.name
    copy.write_text(text)
    command = ["systemd-analyze", "verify", str(copy)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in said.stderr.splitlines() if path.name in line] == []
    assert unit(path)["KillMode"] == ["mixed"]


@pytest.mark.skipif(importlib.util.find_spec("kubernetes_validate") is None, reason="needs kubernetes-validate")
def test_the_schemas_of_kubernetes_find_nothing_wrong() -> None:
    validate: Any = importlib.import_module("kubernetes_validate")
    for manifest in manifests():
        if manifest["kind"] not in ("Kustomization", "ScaledObject"):
            validate.validate(manifest, "1.31", strict=True)
