"""Gives a worker a share of new calls beside another one that takes the rest.

livekit-server draws a worker at random among those that are available, each with the weight ``1 - load``, and asks the
next one where it refuses (``selectWorkerWeightedByLoad`` in ``pkg/service/agentservice.go``, 1.13.5). So the reported
load steers the share exactly as far as the other one's load is known: both run on one machine, whose CPU is what
livekit-agents measures unless the agent brings a measure of its own. ``agents.target_load`` does not shut out a worker
above it: it only counts for the choice among nodes.
"""

from __future__ import annotations


def steered_load(own_load: float, share: float) -> float:
    """Return the load to report for ``share`` of the calls, where the other worker reports ``own_load``."""
    rest = 1.0 - min(max(own_load, 0.0), 1.0)
    return max(0.0, 1.0 - share / (1.0 - share) * rest)
