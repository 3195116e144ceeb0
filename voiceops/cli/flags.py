"""Flags of commands that take many: one value each, passed on as it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CallFlags:
    """Flags of `inv call`, with their defaults."""

    count: int = 1
    concurrency: int = 0
    rate: float = 0.0
    duration: float = 0.0
    hold: float = 0.0
    min_quality: float = 0.0
    script: str = ""
    hangup: str = "clean"
    redial: bool = False
    room: str = ""
    service: str = ""
    agent_name: str = ""
    report: str = ""
    plot: str = ""
    expect_success: float = 0.95


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CapacityFlags:
    """Flags of `inv capacity`, with their defaults."""

    most: int = 50
    hold: float = 10.0
    service: str = ""
    report: str = ""
    plot: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HistoryFlags:
    """Flags of `inv history`, with their defaults."""

    calls: bool = False
    incidents: bool = False
    repairs: bool = False
    deploys: bool = False
    since: str = "7d"
    csv: str = ""
    plot: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LogFlags:
    """Flags of `inv logs`, with their defaults; -1 lines: 200, or with ``since`` all."""

    only: str = ""
    follow: bool = False
    since: str = ""
    lines: int = -1
    raw: bool = False
    level: str = ""
    grep: str = ""
    room: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RestartFlags:
    """Flags of `inv restart`, with their defaults; "" serial: one host after the other; -1 drain: a server with calls stays."""

    only: str = ""
    verify: bool = False
    drain: float = -1.0
    serial: str = ""
    max_fail: int = 0
    no_call: bool = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RollbackFlags:
    """Flags of `inv rollback`, with their defaults; -1 and "" stand for what the inventory says."""

    only: str = ""
    to: str = ""
    wait: float = 10.0
    serial: str = ""
    max_fail: int = -1
    no_call: bool = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SetupFlags:
    """Flags of `inv setup`, with their defaults; -1 and "" stand for what the inventory says."""

    serial: str = ""
    max_fail: int = -1
    parallel: int = 0
    wait: float = -1.0
    accept_new: bool = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DeployFlags(SetupFlags):
    """Flags of `inv deploy`: those of `inv setup`, and its own; -1 drain: a server with calls is left alone."""

    no_call: bool = False
    drain: float = -1.0
    canary: str = ""
    for_: str = ""
