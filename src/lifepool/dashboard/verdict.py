"""Say in one sentence how the pool does, the worst first. Pure: a function of what the page shows anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Parts of what came in the last seconds: from here on it is bad, or worth a look.
BAD_PART, NOTABLE_PART = 0.05, 0.005
#: Seconds by which the event loop may be late before the verdict says so.
LATE_LOOP_S = 0.5
FULL_UTILISATION = 0.95
#: Reasons not to be ready of a pool that lives as it should; other sentences cover these.
OF_WORKERS = frozenset({"no-worker", "saturated"})

Verdict = dict[str, str]
Findings = Iterator[tuple[str, str]]  # level and sentence


def verdict(
    *,
    reasons: Sequence[str],
    config: Mapping[str, Any],
    counts: Mapping[str, Any],
    lately: Mapping[str, Any],
    window: Mapping[str, Any],
    start_error: str | None,
) -> Verdict:
    """Say the worst that can be said.

    Args:
        reasons: Why the pool is not ready, as ``pool.readiness()`` has them.
        config: ``min_workers`` and ``max_queue``.
        counts: ``workers`` by state, ``queued``, ``running``, ``predicted_wait_s``.
        lately: What came in the last seconds, per second: the outcomes, ``refused``, ``submitted``.
        window: The last minute: ``utilisation``, ``loop_lag``.
        start_error: Why the last worker could not start, if that may be shown.

    Returns:
        ``level``: ``bad``, ``notable`` or ``good``; and ``text``, a sentence.
    """
    checks = (
        _of_life(reasons, counts, start_error),
        () if set(reasons) - OF_WORKERS else _of_workers(counts, config),
        _of_routing(reasons, counts),
        _of_refusals(lately, counts, config),
        _of_outcomes(lately),
        _of_load(counts, window),
    )
    found = [each for check in checks for each in check]
    for level in ("bad", "notable"):
        for said, text in found:
            if said == level:
                return {"level": level, "text": text}
    up = _up(counts)
    return {"level": "good", "text": f"All is well: {up} of {_all(counts)} workers are up." if up else "All is well."}


def _of_life(reasons: Sequence[str], counts: Mapping[str, Any], start_error: str | None) -> Findings:
    under_way = f"{counts['running']} tasks run, {counts['queued']} wait"
    why = f" {last_line(start_error)}" if start_error else " The server's log says why."
    said = {
        "broken": "Broken: a bug in lifepool has stopped the pool. Restart the server, and report it with its log.",
        "crash-looping": f"Crash loop: no worker comes up.{why}",
        "terminating": f"The server is ending: {under_way}.",
        "closed": "Closed: the pool takes no task any more. Restart the server.",
        "created": "Not started yet: the pool starts with the app's lifespan.",
        "starting": f"Starting: {_up(counts)} of {_all(counts)} workers are up.",
        "draining": f"Draining: nothing new is taken; {under_way}.",
        "unreachable": "The cluster takes no calls: it can't be reached, or has no nodes. See Nodes for why.",
    }
    for reason, text in said.items():
        if reason in reasons and not (reason == "closed" and "terminating" in reasons):
            yield ("notable" if reason in ("starting", "created", "terminating") else "bad"), text
    for reason in reasons:
        if reason not in said and reason not in OF_WORKERS:
            yield "bad", f"Not ready: {reason}."


def _of_workers(counts: Mapping[str, Any], config: Mapping[str, Any]) -> Findings:
    workers, total = counts["workers"], _all(counts)
    if _up(counts) or not (total or config["min_workers"] or counts["queued"]):
        return
    states = ", ".join(f"{n} of {total} {state}" for state, n in workers.items() if n)
    yield "bad", f"No worker is up: {states or 'there is none'}; {counts['queued']} tasks wait."


def _of_routing(reasons: Sequence[str], counts: Mapping[str, Any]) -> Findings:
    """Say what is wrong with the two backends of a pool that has two."""
    routing = counts.get("routing")
    if not routing:
        return
    here, there = routing["local"], routing["remote"]
    if "saturated" in reasons:
        yield "bad", f"All queues are full: {here['queued']} tasks wait here, {there['queued']} for the cluster."
    if routing["breaker"] != "closed":
        yield "notable", "The cluster is lost: this machine runs its tasks, as far as there is room."


def _of_refusals(lately: Mapping[str, Any], counts: Mapping[str, Any], config: Mapping[str, Any]) -> Findings:
    refused = lately.get("refused") or 0.0
    part = refused / asked if (asked := refused + (lately.get("submitted") or 0.0)) else 0.0
    if part > 0:
        yield _level(part), f"Refusing {_percent(part)} of calls: more comes than the workers can do."
    if counts["queued"] >= config["max_queue"] and not counts.get("routing"):
        yield "bad", f"The queue is full: {counts['queued']} tasks wait, and one more is refused."


def _of_outcomes(lately: Mapping[str, Any]) -> Findings:
    rates = {name: lately.get(name) or 0.0 for name in ("completed", "failed", "timed_out", "lost")}
    total = sum(rates.values())
    for name, text in (
        ("lost", "are lost: their workers die"),
        ("timed_out", "pass their timeout"),
        ("failed", "fail: their functions raise"),
    ):
        if rates[name]:
            yield _level(rates[name] / total), f"{_percent(rates[name] / total)} of tasks {text}."


def _of_load(counts: Mapping[str, Any], window: Mapping[str, Any]) -> Findings:
    late = window.get("loop_lag") or 0.0
    if late >= LATE_LOOP_S:
        yield "notable", f"The event loop stood still for {late:.2g} s: something blocks it."
    if counts["queued"] and (window.get("utilisation") or 0.0) >= FULL_UTILISATION:
        wait = counts["predicted_wait_s"]
        yield "notable", f"All workers are busy: {counts['queued']} tasks wait, a new one for {wait:.2g} s."


def last_line(text: str) -> str:
    """Return what an error says of itself: the end of its traceback."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _level(part: float) -> str:
    return "bad" if part >= BAD_PART else "notable" if part >= NOTABLE_PART else "good"


def _percent(part: float) -> str:
    return "less than 1 %" if part < 0.01 else f"{min(99, round(100 * part)) if part < 1 else 100} %"


def _all(counts: Mapping[str, Any]) -> int:
    return sum(counts["workers"].values())


def _up(counts: Mapping[str, Any]) -> int:
    """Count the workers that serve: those that finish their last task too."""
    return sum(n for state, n in counts["workers"].items() if state in ("ready", "busy", "draining"))
