"""How often an address may do something: a bucket each, filled at a steady rate (token bucket). Bounded in memory."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 4096  # addresses that are remembered; whoever was silent longest is forgotten first


class Allowance:
    """`burst` at once, `per_s` a second in the long run, for each. Used by one thread."""

    def __init__(self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, who: str) -> float:
        """How long `who` has to wait until the next one; 0 where it may go ahead. Takes nothing."""
        return max(0.0, (1.0 - self._now(who)) / self._per_s)

    def take(self, who: str) -> float:
        """Take one, where there is one left. Returns what `wait_s` would have."""
        left = self._now(who)
        if left < 1.0:
            return (1.0 - left) / self._per_s
        self._left[who] = (left - 1.0, self._clock())
        self._left.move_to_end(who)
        while len(self._left) > _MOST:
            self._left.popitem(last=False)
        return 0.0

    def _now(self, who: str) -> float:
        left, at = self._left.get(who, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at) * self._per_s)


def neighbour(host: str | None) -> str:
    """What counts as one address: of IPv6 a subscriber's whole network, or there would be no counting at all."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
