"""A flood of webhooks: ``python -m bench.webhooks [--rate N] [--seconds S]``.

Signed, forged, replayed and shuffled ones at a running monitor, so many a second, from another process. Every forged one has to
be refused; and while they come, a service that is killed has to come back. Exit 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter

import aiohttp

from bench.monitor_cost import cpu_s, pss
from bench.monitored import load, monitored
from tests.support.live import API_KEY, API_SECRET
from tests.unit.adapters.livekit.test_webhook import token
from voiceops.model.protocol import WEBHOOK_PATH

STEPS = ("participant_joined", "track_published", "participant_left", "room_finished")
BACK_WITHIN_S = 30.0


def request(number: int, kind: str) -> tuple[bytes, str]:
    """Body and token of one webhook; every call has four of them."""
    call, step = divmod(number, len(STEPS))
    body = json.dumps(
        {
            "event": STEPS[step],
            "id": f"EV_{number}",
            "createdAt": str(int(time.time())),
            "room": {"sid": f"RM_{call}", "name": f"flood-{call}"},
            "participant": {"sid": f"PA_{call}", "identity": "caller", "kind": "STANDARD"},
        }
    ).encode()
    return body, token(body, secret="forged " * 8 if kind == "forged" else API_SECRET, iss=API_KEY)


async def flood(url: str, rate: int, seconds: float) -> Counter[tuple[str, int]]:
    """Send at this rate; how many of each kind were answered how."""
    chooser = random.Random(1)
    answers: Counter[tuple[str, int]] = Counter()
    shuffled = list(range(int(rate * seconds)))
    for start in range(0, len(shuffled), 40):  # LiveKit may be late, not hours late
        part = shuffled[start : start + 40]
        chooser.shuffle(part)
        shuffled[start : start + 40] = part

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:

        async def send(number: int) -> None:
            kind = chooser.choice(("good", "good", "forged", "replayed"))
            body, token = request(shuffled[number], kind)
            for _ in range(2 if kind == "replayed" else 1):
                async with session.post(url, data=body, headers={"Authorization": token}) as answer:
                    answers[kind, answer.status] += 1

        began = time.monotonic()
        sending = []
        for number in range(len(shuffled)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            sending.append(asyncio.ensure_future(send(number)))
        await asyncio.gather(*sending)
    return answers


def flood_here(
    url: str, rate: int, seconds: float, result: multiprocessing.Queue[tuple[float, Counter[tuple[str, int]]]]
) -> None:
    """The other process."""
    began = time.monotonic()
    answers = asyncio.run(flood(url, rate, seconds))
    result.put((time.monotonic() - began, answers))


def main() -> int:
    """Flood, kill, wait, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with monitored(None) as made:
        port = made.variables["services"]["monitor"]["webhook_port"]
        pid, old = made.pid("monitor"), made.pid("livekit")
        cpu_before = cpu_s(pid)
        result: multiprocessing.Queue[tuple[float, Counter[tuple[str, int]]]] = multiprocessing.Queue()
        url = f"http://127.0.0.1:{port}{WEBHOOK_PATH}"
        sender = multiprocessing.Process(target=flood_here, args=(url, options.rate, options.seconds, result))
        sender.start()
        time.sleep(options.seconds / 4)
        os.kill(old, signal.SIGKILL)
        killed = time.monotonic()
        while (
            back := made.inv("check-running", code=None).code
        ) and time.monotonic() - killed < BACK_WITHIN_S:
            time.sleep(0.2)
        back_s = time.monotonic() - killed
        took_s, answers = result.get(timeout=options.seconds * 5)
        sender.join()
        took_cpu = cpu_s(pid) - cpu_before
        size, same = pss(pid), made.pid("monitor") == pid
        kept = made.inv("history", "--calls", "--json").json["hosts"]["localhost"]["calls"]
    total = sum(answers.values())
    print(f"{total} webhooks in {took_s:.0f} s, {total / took_s:.0f} a second of {options.rate}; {load()}")
    for (kind, status), count in sorted(answers.items()):
        print(f"  {kind:9} {status}: {count}")
    open_calls = sum(one["outcome"] is None for one in kept)
    print(f"  the killed server was back after {back_s:.1f} s; the monitor lived on: {same}")
    print(f"  monitor: {size / 1e6:.1f} MB, {took_cpu / total * 1e6:.0f} us of CPU for a webhook")
    print(f"  history: {len(kept)} calls, {open_calls} that go on")
    wrong = answers["forged", 200] + sum(
        count for (kind, status), count in answers.items() if kind != "forged" and status != 200
    )
    return 0 if not wrong and not back and same else 1


if __name__ == "__main__":
    sys.exit(main())
