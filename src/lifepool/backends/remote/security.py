"""What a node lets in: functions that it was told to allow, in messages that are signed, fresh, and here once."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lifepool.backends.remote.functions import path_in
from lifepool.backends.remote.messages import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds that a call may be on its way to a node before it counts as stale. Its client sends it anew before that. So
#: long, too, it is remembered that a call was here: a copy of it that comes later is refused for its age.
LONGEST_WAIT_S = 120.0
#: Seconds by which the clocks of two machines may differ from what is known of that, where the engine has none that
#: they share.
SKEW_S = 5.0
#: Numbers of calls that a node remembers at most: past it the oldest are forgotten.
MOST_REMEMBERED = 200_000
#: How a module is allowed on a node that is started by ``lifepool worker``.
ALLOW_ADVICE = "start the node with --allow {}, if it is meant to run that"


class AllowList:
    """The functions that a node runs.

    Args:
        names: Modules, which allow what is in them and below them; or single functions, as in ``"shop.prices:total"``.
            None allows all: for engines that run whatever their clients ask for.
        advice: How a module is allowed that is not.
    """

    def __init__(self, names: Iterable[str] | None, advice: str = ALLOW_ADVICE) -> None:
        self._names = None if names is None else tuple(names)
        self._advice = advice

    def check(self, spec: Any) -> str:
        """Return the import path of a function that is allowed.

        Raises:
            Refused: If it is not.
        """
        try:
            path = path_in(spec)
        except ValueError as error:
            raise Refused("not allowed", str(error)) from None
        module, _, _ = path.partition(":")
        if self._names is None:
            return path
        for name in self._names:
            if path == name or module == name or module.startswith(f"{name}."):
                return path
        raise Refused("not allowed", f"this node does not run {path}", self._advice.format(module))


def check_freshness(head: dict[str, Any], now: float, skew_s: float) -> float | None:
    """Return the seconds that are left of a call's timeout, None if it has none.

    Args:
        head: Of the call.
        now: Seconds since the epoch, by the clock that the client has used.
        skew_s: By how much the two may differ.

    Raises:
        Refused: If the call is stale, or comes from the future.
    """
    waited = now - float(head["issued"])
    if waited < -skew_s:
        hint = "set the clocks of both machines, for example with NTP"
        raise Refused("expired", f"it was made {-waited:.1f} s in the future", hint)
    left: float | None = head["left"]
    if waited - skew_s > min(LONGEST_WAIT_S, LONGEST_WAIT_S if left is None else left):
        raise Refused("expired", f"it is {waited:.1f} s old")
    return None if left is None else left - max(0.0, waited - skew_s)  # the client ends the call by itself as well


class Remembered:
    """Ids of a time: each is forgotten when a message with it would be refused for its age anyway."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, id: str) -> bool:
        return id in self._until

    def add(self, id: str, until: float, now: float) -> bool:
        """Remember an id; return whether it was new."""
        known = self._until
        while known and (len(known) >= MOST_REMEMBERED or next(iter(known.values())) < now):
            known.popitem(last=False)
        if id in known:
            return False
        known[id] = until
        return True


def needs_secret(host: str | None) -> bool:
    """Return whether messages over this host pass where others can write them: anything but loopback or a file."""
    if host is None or host in ("", "localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
