"""What Prometheus would read, parsed by its own client."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry


class Scrape:
    """One look at an exposition.

    Attributes:
        text: As it was read.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self._samples, f"twice: {sample}"
                self._samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Return the sample with exactly these labels."""
        return self._samples[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples that have these labels."""
        wanted = labels.items()
        return sum(value for (each, have), value in self._samples.items() if each == name and wanted <= set(have))

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values that a label has."""
        return {dict(have)[label] for each, have in self._samples if each == name}

    def counters(self) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all that may never go backwards."""
        ends = ("_total", "_bucket", "_sum", "_count")
        return {key: value for key, value in self._samples.items() if key[0].endswith(ends)}


def scrape(registry: CollectorRegistry) -> Scrape:
    return Scrape(generate_latest(registry).decode())


def check_metrics(promtool: str, text: str) -> str:
    """Return promtool's complaints about an exposition; empty if it is clean."""
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr
