"""Many hosts: order by needs, batches, one runner with one result for each host."""

from __future__ import annotations

from voiceops.fleet.run import HostResult, on_hosts

__all__ = ["HostResult", "on_hosts"]
