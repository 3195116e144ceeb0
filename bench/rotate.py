"""What a rotation of LiveKit's keys costs callers: ``python -m bench.rotate [--kills N] [--seed N]``.

A host with systemd runs LiveKit and an agent that speaks all the while. People call again and again, each for some
seconds with a pause after it, each with the keys of that moment. First one rotation runs under them, then another one
whose command is killed (SIGKILL) at random moments, until a last one is left to finish.

Bars: no call dropped or unanswered, one pair of keys left in .env and in the server, no agent with another one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.deploy import ENTRY
from tests.support import hosts, hosts_prepared
from tests.support.command_folder import environment_of_user
from tests.support.servers import PROJECT, Servers, agent_servers
from voiceops.config.local_keys import made_value
from voiceops.config.source.dotenv import parse

ROTATE = ("rotate-keys", "--group", "servers", "--drain", "120")


class KeysInFile(Servers):
    """Servers whose keys stand in .env, and not in the environment."""

    def environment(self) -> dict[str, str]:
        return environment_of_user()


@contextmanager
def calling(
    made: Servers, hold_s: float, pause_s: float, *, count: int = 1, host: str = ""
) -> Iterator[list[dict[str, Any]]]:
    """Calls, ``count`` at once, one after the other until the block ends; their entries of the document."""
    where = ("--host", host) if host else ("--group", "servers")
    many = ("--count", str(count), "--concurrency", str(count), "--hold", str(hold_s))
    done: list[dict[str, Any]] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            answer = made.inv("call", *where, *many, "--json", code=None)
            done.extend(answer.json.get("calls") or [{"ok": False, "failure": answer.json.get("error")}])
            over.wait(pause_s)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def killed_rotation(made: Servers, kills: int, chance: random.Random) -> str:
    killed = 0
    for _ in range(kills):
        process = made.spawn(*ROTATE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.5, 25.0))
        killed += process.poll() is None
        process.kill()
        process.communicate()
    made.inv(*ROTATE, timeout_s=600)
    return f"{killed} of {kills} killed, and one that finished"


def left(made: Servers) -> str:
    """What is not as it should be after a rotation."""
    (machine,) = made.machines
    names = set(parse((made.folder / ".env").read_text()))
    keys = machine.shell(f"sed -n '/^keys:/,/^rtc:/p' /etc/{PROJECT}/livekit.yaml").stdout
    wrong = [] if names == {"LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"} else [f".env has {sorted(names)}"]
    wrong += [] if keys.count("API") == 1 else ["the server has several keys"]
    wrong += [] if made.inv("drift", "--group", "servers", code=None).code == 0 else ["drift"]
    return "; ".join(wrong)


def report(what: str, calls: Sequence[dict[str, Any]], wrong: str) -> bool:
    bad = [one for one in calls if not one["ok"]]
    gap_s = max((max(one["max_gap_s"], one["max_pause_s"]) for one in calls if one["ok"]), default=0.0)
    print(
        f"{what}: {len(bad)} of {len(calls)} calls dropped or unanswered, largest gap {gap_s * 1000:.0f} ms; "
        f"left: {wrong or 'nothing'}",
        flush=True,
    )
    for one in bad:
        print(f"    {one.get('started_s')} {one['failure']}", flush=True)
    return not bad and not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=16)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as machines,
    ):
        plain = agent_servers(Path(name) / "project", machines, ENTRY)
        made = KeysInFile(folder=plain.folder, machines=machines, variables=plain.variables)
        made.write()
        (made.folder / ".env").write_text(
            f"LIVEKIT_API_KEY={made_value(True)}\nLIVEKIT_API_SECRET={made_value(False)}\n"
        )
        made.deploy(timeout_s=300)
        began = time.monotonic()
        with calling(made, 5.0, 3.0) as calls:
            time.sleep(4.0)
            made.inv(*ROTATE, timeout_s=600)
            took_s = time.monotonic() - began
        ok = report(f"a rotation in {took_s:.0f} s", calls, left(made))
        with calling(made, 5.0, 3.0) as calls:
            did = killed_rotation(made, chosen.kills, chance)
        return 0 if report(did, calls, left(made)) and ok else 1


if __name__ == "__main__":
    sys.exit(main())
