"""What deploys cost callers: ``python -m bench.drop [--only TEXT] [--deploys N] [--calls N] [--seed N]``.

A host with a real systemd runs LiveKit and an agent that speaks all the while, as ``inv deploy`` brings them. Meanwhile
some people stay in one long call each, and one calls again and again. Each row is a way to bring new releases there:

- ``nothing``: no deploy at all, to tell what the machine itself does to calls
- ``deploys``: one after the other
- ``killed``: the same; each deployer is killed (SIGKILL) at a random moment, and the next one goes on
- ``rollbacks``: there and back again
- ``bad``: releases that can't be imported, die half a second after they registered, never register, answer with silence, or block their loop
- ``canary``: two with a share of new calls at first; the second one's calls fail after its proof, so some of the short ones
  are unanswered: at most its share
- ``reboot``: the host loses its power in the middle of each; it has to serve one whole release then, and the next one goes on
- for comparison (``bench.drop_others``): ``restart`` by ``systemctl restart``, ``stop-start`` as tools for containers do it,
  ``ansible`` by a role that copies the file and restarts the unit; ``--stop-s`` is the stop timeout of the unit

Bars: no long call dropped and none unanswered; no gap or pause of the agent's sound above 100 ms; 60 s after the last
call no room without a person and no agent that drains.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.drop_others import playbook_each, restart_each, stop_and_start_each
from tests.support import hosts, hosts_prepared
from tests.support.bad_releases import AGENT, TONE, serving, turns_bad
from tests.support.servers import PROJECT, Servers, agent_servers

GAP_BAR_S = 0.1
TIDY_BAR_S = 60.0
PER_DEPLOY_S = 14.0
CANARY_SHARE = 0.2
CANARY_S = 60.0
_MAIN = "if __name__ =="
_BEGIN = '    mode = ctx.job.room.name.rpartition("-")[2]\n'
BAD: Mapping[str, Callable[[str], str]] = {
    "import error": lambda text: f"{text}\nimport no_such_module\n",
    "dies after registering": lambda text: text.replace(
        _MAIN,
        f'server.on("worker_registered", lambda *_: asyncio.get_running_loop().call_later(0.5, os._exit, 3))\n\n{_MAIN}',
    ),
    "never registers": lambda text: text.replace(_MAIN, f"time.sleep(600)\n\n{_MAIN}"),
    "answers silence": lambda text: text.replace(_BEGIN, f"    await asyncio.Event().wait()\n{_BEGIN}"),
    "blocks its loop": lambda text: text.replace(
        _MAIN,
        f'server.on("worker_registered", lambda *_: asyncio.get_running_loop().call_later(0.2, time.sleep, 600))\n\n{_MAIN}',
    ),
}


@dataclass(slots=True)
class Heard:
    """What callers heard during one row."""

    long: list[dict[str, Any]] = field(default_factory=list)
    short: list[dict[str, Any]] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        return sum(not one["ok"] for one in self.long)

    @property
    def unanswered(self) -> int:
        return sum(not one["ok"] for one in self.short)

    @property
    def largest_s(self) -> float:
        """Of gaps and pauses: this agent never pauses by itself."""
        held = [one for one in self.long if one["ok"]]
        return max((max(one["max_gap_s"], one["max_pause_s"]) for one in held), default=0.0)


@contextmanager
def calling(made: Servers, heard: Heard, *, calls: int, hold_s: float) -> Iterator[None]:
    """Long calls that are under way in the block and end after it, and short ones all the while."""
    common = ("call", "--group", "servers", "--json")
    long = made.spawn(*common, "--count", str(calls), "--concurrency", str(calls), "--hold", str(hold_s))
    time.sleep(6.0)
    short = made.spawn(*common, "--count", "100000", "--hold", "1")
    try:
        yield
    finally:
        short.send_signal(signal.SIGINT)
        heard.short = json.loads(short.communicate(timeout=120)[0])["calls"]
        heard.long = json.loads(long.communicate(timeout=hold_s + 120)[0])["calls"]


def release(made: Servers, change: str) -> None:
    (made.folder / AGENT).write_text(f"{TONE.read_text()}\n{change}\n")


def wait_only(made: Servers, count: int, chance: random.Random) -> str:
    time.sleep(PER_DEPLOY_S * count / 2)
    return "no deploy"


def deploy_each(made: Servers, count: int, chance: random.Random) -> str:
    for _ in range(count):
        release(made, f"TURN = {chance.random()}")
        made.deploy()
    return f"{count} deploys"


def kill_each(made: Servers, count: int, chance: random.Random) -> str:
    killed = 0
    for _ in range(count):
        release(made, f"TURN = {chance.random()}")
        process = made.spawn("deploy", "--group", "servers")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.5, 9.0))
        killed += process.poll() is None
        process.kill()
        process.communicate()
    made.deploy("--yes")
    return f"{killed} of {count} deployers killed, and one that finished"


def roll_back_each(made: Servers, count: int, chance: random.Random) -> str:
    for _ in range(count // 2):
        release(made, f"TURN = {chance.random()}")
        made.deploy()
        made.inv("rollback", "--group", "servers")
    return f"{count // 2} deploys, each rolled back"


def bad_each(made: Servers, count: int, chance: random.Random) -> str:
    told = []
    made.variables["services"]["agent"]["ready_timeout_s"] = 25
    made.write()
    for name, spoil in BAD.items():
        (made.folder / AGENT).write_text(spoil(TONE.read_text()))
        (result,) = made.deploy(code=1, timeout_s=300)["hosts"].values()
        error = result["error"]
        marked = "marked" if error.get("bad") else "NOT marked bad"
        told.append(f"    {name}: {marked}: {error['message'][:150]}")
    print("\n".join(told), flush=True)
    return f"{len(BAD)} bad releases, each exit 1"


def reboot_each(made: Servers, count: int, chance: random.Random) -> str:
    """No calls: those of this host end with its power."""
    (machine,) = made.machines
    before = serving(machine)
    landed = 0
    for _ in range(count):
        release(made, f"TURN = {chance.random()}")
        process = made.spawn("deploy", "--group", "servers")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(1.0, 9.0))
        machine.power_off()
        process.kill()
        process.communicate()
        machine.power_on()
        after = settled(machine)
        assert len(after) == 1, f"{after} serve after the reboot"
        landed += after != before
        made.inv("call", "--group", "servers", timeout_s=60)
        (deployed,) = made.deploy("--yes", timeout_s=300)["hosts"].values()
        before = serving(machine)
        assert before == {deployed["release"]}, f"{before} serve after the next deploy"
        assert made.deploy()["changed_count"] == 0
    return f"{count} reboots, {landed} of them with the new release, each finished by the next deploy"


def settled(machine: hosts.Machine) -> set[str]:
    """The releases that serve once systemd has started what starts with the host."""
    ends_at = time.monotonic() + 60.0
    while not (found := serving(machine)) and time.monotonic() < ends_at:
        time.sleep(0.5)
    return found


def canary_each(made: Servers, count: int, chance: random.Random) -> str:
    """One that stands the comparison, and one whose calls fail after its proof."""
    told = []
    (machine,) = made.machines
    flags = ("--canary", f"{CANARY_SHARE:.0%}", "--for", f"{CANARY_S:g}s")
    release(made, f"TURN = {chance.random()}")
    good = made.deploy(*flags, timeout_s=300)["hosts"][machine.name]
    told.append(f"    good: {good['canaries']['agent']}")
    (made.folder / AGENT).write_text(turns_bad(TONE.read_text()))
    error = made.deploy(*flags, code=1, timeout_s=300)["hosts"][machine.name]["error"]
    told.append(f"    turns bad: {error['canary']}: {error['message']}")
    print("\n".join(told), flush=True)
    assert serving(machine) == {good["release"]}, "it is back at the one before"
    return "a good canary and one that turns bad"


ROWS = {
    "nothing": wait_only,
    "deploys": deploy_each,
    "killed": kill_each,
    "rollbacks": roll_back_each,
    "bad": bad_each,
    "reboot": reboot_each,
    "canary": canary_each,
}
OTHERS = {"restart": restart_each, "stop-start": stop_and_start_each, "ansible": playbook_each}
WITHOUT_CALLS = ("reboot",)


def left_behind(made: Servers) -> tuple[float, str]:
    """Seconds until no room is empty of people and no agent drains, and what is left at the bar."""
    began = time.monotonic()
    machine = made.machines[0]
    while True:
        rooms = made.inv("rooms.list", "--group", "servers", "--json").json["rooms"]
        left = [one["room"] for one in rooms if not one["persons"]]
        units = machine.shell(f"systemctl list-units --plain --no-legend '{PROJECT}-agent@*'").stdout
        draining = [line.split()[0] for line in units.splitlines() if "deactivating" in line]
        waited_s = time.monotonic() - began
        if not left and not draining:
            return waited_s, ""
        if waited_s > TIDY_BAR_S:
            return waited_s, f"{len(left)} rooms, {len(draining)} draining"
        time.sleep(2.0)


def measure(made: Servers, row: str, *, count: int, calls: int, chance: random.Random, stop_s: float) -> bool:
    """Run one row and print it; whether it keeps the bars."""
    release(made, "")
    made.deploy("--yes")
    heard = Heard()
    each_s = PER_DEPLOY_S + (stop_s if row in OTHERS else 0.0)
    longest_s = each_s * (count if row != "bad" else 4 * len(BAD)) + 20
    if row == "canary":
        longest_s = 2 * (CANARY_S + PER_DEPLOY_S) + 30
    if row in OTHERS:
        longest_s += (
            40.0  # LiveKit tells of a killed agent after 20 s: a call that ends before that counts as held
        )
    began = time.monotonic()
    callers = (
        contextlib.nullcontext()
        if row in WITHOUT_CALLS
        else calling(made, heard, calls=calls, hold_s=longest_s)
    )
    with callers:
        did = OTHERS[row](made, count, chance, stop_s) if row in OTHERS else ROWS[row](made, count, chance)
        took_s = time.monotonic() - began
    tidy_s, left = left_behind(made)
    if row in WITHOUT_CALLS:
        print(
            f"{row:10} {did} in {took_s:.0f} s, tidy after {tidy_s:.0f} s{f', left: {left}' if left else ''}",
            flush=True,
        )
        return not left
    allowed = CANARY_SHARE * len(heard.short) if row == "canary" else 0
    ok = not (heard.dropped or heard.unanswered > allowed or left) and heard.largest_s <= GAP_BAR_S
    print(
        f"{row:10} {did} in {took_s:.0f} s (calls of {longest_s:.0f} s): {heard.dropped} of {len(heard.long)} long calls dropped, "
        f"{heard.unanswered} of {len(heard.short)} short ones unanswered, largest gap {heard.largest_s * 1000:.0f} ms, "
        f"tidy after {tidy_s:.0f} s{f', left: {left}' if left else ''}",
        flush=True,
    )
    for one in heard.long:
        measured = {
            name: one.get(name) for name in ("max_gap_s", "max_gap_at_s", "max_pause_s", "max_pause_at_s")
        }
        print(f"    {measured}", flush=True)
    for one in [*heard.long, *heard.short]:
        if not one["ok"]:
            print(
                f"    {one['failure']['kind']}: {one['failure']['detail']} ({one.get('started_s', 0):.0f} s)",
                flush=True,
            )
    return ok or row == "nothing" or row in OTHERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each row; exit 1 if one misses a bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--only", default="", help="those rows that have one of these in their name, as reboot,ansible"
    )
    parser.add_argument("--deploys", type=int, default=10)
    parser.add_argument("--calls", type=int, default=4, help="long calls at once")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--stop-s", type=float, default=90.0, help="of the unit, for the rows of other tools")
    chosen = parser.parse_args(arguments)
    # A shell starts what it runs in the background with SIGINT ignored, which the calls would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as machines,
    ):
        made = agent_servers(Path(name) / "project", machines, TONE)
        return 1 - min(
            measure(
                made,
                row,
                count=chosen.deploys,
                calls=chosen.calls,
                chance=random.Random(chosen.seed),
                stop_s=chosen.stop_s,
            )
            for row in (*ROWS, *OTHERS)
            if any(text in row for text in chosen.only.split(","))
        )


if __name__ == "__main__":
    sys.exit(main())
