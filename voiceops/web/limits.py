"""How often one address, and all of them, may ask: token buckets."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 10_000
_BURST_S = 20.0
"""A bucket holds what flows in within so long."""


class RateLimit:
    """Allows ``per_minute`` requests of one address and ``total_per_minute`` of all; IPv6 counts by /64."""

    def __init__(
        self, per_minute: float, total_per_minute: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._total = _Bucket(total_per_minute, clock())
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Take one request of this address; 0 where it is allowed, else the seconds until it would be."""
        now, key = self._clock(), _group(address)
        bucket = self._buckets.pop(key, None) or _Bucket(self._per_minute, now)
        self._buckets[key] = bucket
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        wait_s = max(bucket.wait_s(now), self._total.wait_s(now))
        if not wait_s:
            bucket.level -= 1.0
            self._total.level -= 1.0
        return wait_s


class _Bucket:
    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60.0
        self._size = max(1.0, self._rate * _BURST_S)
        self._at = now
        self.level = self._size

    def wait_s(self, now: float) -> float:
        self.level = min(self._size, self.level + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self.level >= 1.0 else (1.0 - self.level) / self._rate


def _group(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
