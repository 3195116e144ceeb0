"""Releases of the tone agent that fail in ways of their own, and what a host must be like after one."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import hosts
from tests.support.servers import PROJECT, Servers

TONE = Path(__file__).parents[1] / "integration" / "agents" / "tone.py"
AGENT = Path("agent", "agent.py")
RAISES = "raise ConnectionError('no database at db1')"


def good_release(servers: Servers, host: hosts.Machine) -> str:
    """Deploy the agent as it is, whatever the test before left; its release."""
    (servers.folder / AGENT).write_text(TONE.read_text())
    return str(servers.deploy("--yes")["hosts"][host.name]["release"])


def entrypoint_that(servers: Servers, does: str) -> None:
    """A new release whose calls do that before anything else."""
    begin = '    mode = ctx.job.room.name.rpartition("-")[2]\n'
    text = TONE.read_text()
    assert begin in text
    (servers.folder / AGENT).write_text(text.replace(begin, f"    {does}\n{begin}"))


def turns_bad(text: str) -> str:
    """The agent whose jobs run in threads, as a release that answers its proof call and fails in all later ones."""
    begin = '    mode = ctx.job.room.name.rpartition("-")[2]\n'
    assert begin in text
    wait = (
        f"    CALLS.append(ctx.job.id)\n    if len(CALLS) > 1:\n        await asyncio.Event().wait()\n{begin}"
    )
    return text.replace(begin, wait).replace("RATE = 48_000\n", "RATE = 48_000\nCALLS: list[str] = []\n")


def told(servers: Servers, *flags: str) -> Any:
    """The error of a deploy that fails."""
    failed = servers.inv("deploy", "--group", "servers", "--json", *flags, code=1, timeout_s=300)
    (one,) = failed.json["hosts"].values()
    return one["error"]


@contextmanager
def callers(servers: Servers) -> Iterator[None]:
    """Two who call again and again: each must be answered, and keep its agent for 4 s."""
    process = servers.spawn(
        "call", "--group", "servers", "--json", "--count", "1000", "--concurrency", "2", "--hold", "4"
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    document = json.loads(out)
    assert document["answered_count"] >= 2, err
    assert document["failed_count"] == 0, json.dumps([one for one in document["calls"] if not one["ok"]])


def ledger(servers: Servers, host: hosts.Machine) -> Any:
    return servers.inv("releases", "--group", "servers", "--json").json["hosts"][host.name]


def deploys(servers: Servers, host: hosts.Machine) -> list[dict[str, Any]]:
    """What the history has of this host's deploys and rollbacks, the oldest first."""
    document = servers.inv("history", "--host", host.name, "--deploys", "--json").json
    return list(document["hosts"][host.name]["deploys"])


def serving(host: hosts.Machine) -> set[str]:
    """Releases of the agents that are active: none that drains."""
    shown = host.shell(f"systemctl list-units --plain --no-legend --state=active '{PROJECT}-agent@*'").stdout
    return {line.split()[0].partition("@")[2].partition(".")[0] for line in shown.splitlines()}


def runs_of(host: hosts.Machine) -> dict[str, str]:
    """The services that are active, each with the id of its run; those that drain come and go."""
    shown = host.shell(
        f"systemctl show --property=Id,ActiveState,InvocationID '{PROJECT}-agent@*' '{PROJECT}-livekit*.service'"
    ).stdout
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n")]
    return {one["Id"]: one["InvocationID"] for one in units if one["ActiveState"] == "active"}


def assert_back(servers: Servers, host: hosts.Machine, good: str) -> None:
    assert serving(host) == {good}
    assert ledger(servers, host)["current"]["agent"]["release"] == good
    assert servers.inv("status", "--group", "servers", "--json").json["hosts"][host.name]["release"] == good
    servers.inv("call", "--group", "servers")
