"""What a node lets in."""

from __future__ import annotations

import pytest

from lifepool.backends.remote.messages import Refused
from lifepool.backends.remote.security import AllowList, Remembered, check_freshness, needs_secret


@pytest.mark.parametrize(
    ("allowed", "path", "runs"),
    [
        ("shop", "shop:buy", True),
        ("shop", "shop.prices:total", True),
        ("shop", "shopping:buy", False),
        ("shop.prices", "shop:buy", False),
        ("shop.prices:total", "shop.prices:total", True),
        ("shop.prices:total", "shop.prices:totally", False),
        ("shop.prices:total", "shop.prices:total.__globals__", False),
    ],
)
def test_what_is_allowed_is_a_module_or_a_function(allowed: str, path: str, runs: bool) -> None:
    for spec in (path, {"partial": path}, {"chunk": {"partial": path}}):
        if runs:
            assert AllowList([allowed]).check(spec) == path
        else:
            with pytest.raises(Refused, match="does not run"):
                AllowList([allowed]).check(spec)


def test_nothing_is_allowed_until_it_is_said() -> None:
    with pytest.raises(Refused) as refused:
        AllowList([]).check("builtins:len")
    assert refused.value.reason == "not allowed"
    assert "--allow builtins" in refused.value.hint


def test_an_engine_may_allow_all_and_have_advice_of_its_own() -> None:
    assert AllowList(None).check("builtins:len") == "builtins:len"
    with pytest.raises(Refused) as refused:
        AllowList(["shop"], "add {} to the list").check("builtins:len")
    assert refused.value.hint == "add builtins to the list"


@pytest.mark.parametrize("spec", [None, "", "os", "os:a:b", {"eval": "os:system"}, {"partial": 1}, {}, [["os:system"]]])
def test_what_names_no_function_is_not_allowed(spec: object) -> None:
    with pytest.raises(Refused):
        AllowList(["os"]).check(spec)


def test_a_call_has_what_its_wait_has_left_of_its_timeout() -> None:
    assert check_freshness({"issued": 100.0, "left": 5.0}, 102.0, 0.0) == 3.0
    assert check_freshness({"issued": 100.0, "left": None}, 102.0, 0.0) is None


def test_clocks_may_differ_a_little() -> None:
    assert check_freshness({"issued": 100.0, "left": 1.0}, 104.0, 5.0) == 1.0
    assert check_freshness({"issued": 100.0, "left": 1.0}, 96.0, 5.0) == 1.0


@pytest.mark.parametrize(("now", "why"), [(102.0, "old"), (90.0, "in the future")])
def test_a_stale_call_is_refused_and_one_from_the_future(now: float, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_freshness({"issued": 100.0, "left": 1.0}, now, 0.5)
    assert refused.value.reason == "expired"


def test_ids_are_forgotten_when_they_are_too_old_to_matter() -> None:
    seen = Remembered()
    assert seen.add("a", until=10.0, now=0.0)
    assert not seen.add("a", until=10.0, now=5.0)
    assert seen.add("b", until=30.0, now=11.0)
    assert "a" not in seen
    assert "b" in seen


@pytest.mark.parametrize(
    ("host", "needs"),
    [("localhost", False), ("127.0.0.1", False), ("::1", False), (None, False), ("10.0.0.1", True), ("redis", True)],
)
def test_only_loopback_needs_no_secret(host: str | None, needs: bool) -> None:
    assert needs_secret(host) is needs
