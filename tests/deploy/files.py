"""What the files in deploy/ say, in a form in which they can be compared with each other and with the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


class Program(NamedTuple):
    """A program that one of the files starts.

    Attributes:
        where: The file and what is started there.
        words: The command.
        environment: Variables of LIFEPOOL_ that it is given.
        stop_s: Seconds from SIGTERM until SIGKILL.
        delay_s: Seconds of these that go by before SIGTERM.
    """

    where: str
    words: list[str]
    environment: dict[str, str]
    stop_s: float
    delay_s: float = 0.0

    def option(self, name: str) -> str | None:
        """Return the value of an option of the command."""
        return self.words[self.words.index(name) + 1] if name in self.words else None


def compose() -> dict[str, Any]:
    """Return compose.yaml, with what is merged merged."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def manifests() -> list[dict[str, Any]]:
    """Return every object of every manifest."""
    paths = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """Return the manifests of one kind."""
    return [each for each in manifests() if each["kind"] == kind]


def dockerfile_command() -> list[str]:
    """Return the command of the image."""
    match = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert match is not None, "the command is in brackets"
    command: list[str] = json.loads(match[1])
    return command


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a systemd unit, each with its values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _from_compose() -> list[Program]:
    services = compose()["services"]
    return [
        Program(f"compose: {name}", service["command"], service["environment"], _seconds(service["stop_grace_period"]))
        for name, service in services.items()
        if name != "redis"
    ]


def _from_kubernetes() -> list[Program]:
    found = []
    for deployment in of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        if container["name"] == "redis":
            continue
        pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        environment = {each["name"]: each["value"] for each in container.get("env", ())}
        where, words = f"kubernetes: {deployment['metadata']['name']}", container["command"] + container["args"]
        found.append(Program(where, words, environment, pod["terminationGracePeriodSeconds"], float(pre_stop[1])))
    return found


def _from_systemd() -> list[Program]:
    found = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        settings = unit(path)
        words = shlex.split(settings["ExecStart"][0])
        given = " ".join(settings.get("Environment", [])).split()
        environment = dict(each.split("=", 1) for each in given)
        words[0] = Path(words[0]).name
        found.append(Program(f"systemd: {path.stem}", words, environment, _seconds(settings["TimeoutStopSec"][0])))
    return found


def programs() -> list[Program]:
    """Return every program that is ours."""
    return [*_from_compose(), *_from_kubernetes(), *_from_systemd()]
