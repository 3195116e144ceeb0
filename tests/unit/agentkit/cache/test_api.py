"""``cached`` in one process, and shared by many through the worker's hub."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from voiceops.agentkit import cached
from voiceops.agentkit.cache.api import CacheError, _decoded, _encoded
from voiceops.agentkit.cache.ipc import Hub, report
from voiceops.agentkit.cache.policy import Counters
from voiceops.agentkit.cache.server import CacheHub


class Source:
    """A data source that counts, and fails or hangs when told to."""

    def __init__(self) -> None:
        self.requests = 0
        self.error: Exception | None = None
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> int:
        self.requests += 1
        self.asked.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.requests


@pytest.fixture(params=["local", "shared"])
async def source(request: pytest.FixtureRequest) -> AsyncIterator[Source]:
    """A source; with "shared" there is a hub, as in a worker's main process."""
    hub = Hub()
    if request.param == "shared":
        hub.on_cache = CacheHub().handle
        await hub.start()
    yield Source()
    await hub.close()


async def test_a_hundred_callers_cost_one_request(source: Source) -> None:
    read = cached(ttl_s=30)(source.read)

    assert set(await asyncio.gather(*(read() for _ in range(100)))) == {1}
    assert source.requests == 1
    assert (read.counters.misses, read.counters.hits) == (1, 99)


async def test_after_invalidate_the_next_caller_gets_new_data(source: Source) -> None:
    read = cached(ttl_s=30)(source.read)
    assert await read() == 1

    await read.invalidate()

    assert await read() == 2


async def test_an_error_without_old_data_reaches_the_caller_as_it_is(source: Source) -> None:
    read = cached(ttl_s=30)(source.read)
    source.error = KeyError("no such item")

    with pytest.raises(KeyError):
        await read()
    with pytest.raises(CacheError, match="no such item"):
        await read()
    assert source.requests == 1, "the source is left alone after an error"


async def test_old_data_cover_an_error_of_the_source(source: Source) -> None:
    read = cached(ttl_s=0.01)(source.read)
    assert await read() == 1
    source.error = ConnectionError("refused")
    await asyncio.sleep(0.02)

    assert await read() == 1
    assert (read.counters.stale, read.counters.errors) == (1, 1)


async def test_old_data_cover_a_source_that_hangs(source: Source) -> None:
    read = cached(ttl_s=0.01, patience_s=0.05)(source.read)
    assert await read() == 1
    source.gate.clear()
    await asyncio.sleep(0.02)

    assert await read() == 1
    source.gate.set()


async def test_behind_a_source_that_hangs_only_the_first_callers_wait(source: Source) -> None:
    read = cached(ttl_s=30, timeout_s=0.1, retry_after_s=60)(source.read)
    source.gate.clear()

    first = await asyncio.gather(*(read() for _ in range(4)), return_exceptions=True)
    later = await asyncio.gather(*(read() for _ in range(20)), return_exceptions=True)

    assert {type(error) for error in [*first, *later]} == {CacheError}
    assert "did not answer within 0.1 s" in str(first[0])
    assert source.requests == 1
    assert read.counters.failed == 23, "all but the one that fetched"

    await read.invalidate()
    source.gate.set()
    assert await read() == 2


async def test_a_source_that_is_back_is_asked_once_its_pause_is_over(source: Source) -> None:
    read = cached(ttl_s=30, timeout_s=0.05, retry_after_s=0.1)(source.read)
    source.gate.clear()
    with pytest.raises(CacheError):
        await read()
    source.gate.set()

    async def until_it_is_back() -> int:
        while True:
            try:
                return await read()
            except CacheError:
                await asyncio.sleep(0.01)

    assert await asyncio.wait_for(until_it_is_back(), 10) in (1, 2)


async def test_a_fetch_that_never_ends_is_ended(source: Source) -> None:
    cancelled = asyncio.Event()

    async def never() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 0

    with pytest.raises(CacheError):
        await cached(timeout_s=0.02, retry_after_s=0.02)(never)()
    await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_source_that_exits_is_an_error_and_not_the_end_of_the_job(source: Source) -> None:
    async def leave() -> int:
        sys.exit(3)

    with pytest.raises(CacheError, match=r"sys\.exit"):
        await cached()(leave)()


@pytest.mark.parametrize(
    "options", [{"ttl_s": 0}, {"timeout_s": 0}, {"retry_after_s": -1}, {"patience_s": -1}, {"max_entries": 0}]
)
def test_options_that_make_no_sense_are_refused_where_they_stand(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        cached(**options)


async def test_a_caller_who_hangs_up_does_not_cancel_the_fetch_for_the_others(source: Source) -> None:
    read = cached(ttl_s=30)(source.read)
    source.gate.clear()
    first = asyncio.create_task(read())
    await source.asked.wait()
    second = asyncio.create_task(read())
    await asyncio.sleep(0.01)

    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()

    assert await second == 1
    assert source.requests == 1


async def test_arguments_make_values_of_their_own() -> None:
    asked: list[tuple[str, int]] = []

    @cached(ttl_s=30)
    async def price(item: str, *, days: int = 1) -> str:
        asked.append((item, days))
        return f"{item} {days}"

    assert [await price("a"), await price("a"), await price("a", days=2), await price("b")] == [
        "a 1", "a 1", "a 2", "b 1"
    ]  # fmt: skip
    assert asked == [("a", 1), ("a", 2), ("b", 1)]


async def test_arguments_without_a_stable_name_need_a_key() -> None:
    @cached()
    async def look_up(_thing: object) -> int:
        return 1

    @cached(key=lambda _thing: "same")
    async def look_up_by_key(_thing: object) -> int:
        return 2

    with pytest.raises(TypeError, match="pass key="):
        await look_up(object())
    assert await look_up_by_key(object()) == 2


async def test_results_that_can_not_travel_still_reach_their_caller() -> None:
    hub = Hub()
    hub.on_cache = CacheHub().handle
    await hub.start()
    try:

        @cached()
        async def make() -> object:
            return lambda: "not picklable"

        assert callable(await make())
    finally:
        await hub.close()


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"name": "Ann", "items": [1, 2.5, None, True], "emoji": "\N{GRINNING FACE}"}, "json"),
        ("text with half of a pair: \ud800", "json"),
        (float("inf"), "json"),
        (2**70, "json"),
        (b"\x00RIFF", "bytes"),
        ((1, 2), "pickle"),
        ({1: "one"}, "pickle"),
        ([{"when": (1, 2)}], "pickle"),
        (Counters(hits=1), "pickle"),
    ],
)
def test_a_value_comes_back_as_it_was_and_is_pickled_only_where_json_would_change_it(
    value: object, form: str
) -> None:
    encoded_as, payload = _encoded(value)
    assert encoded_as == form
    back = _decoded(encoded_as, payload)
    assert (type(back), back) == (type(value), value)


def test_a_value_that_contains_itself_is_pickled() -> None:
    value: list[object] = []
    value.append(value)
    assert _encoded(value)[0] == "pickle"


IMPOSTOR = """
import json, os, pickle, socket, sys
class Evil:
    def __reduce__(self):
        return (open, (sys.argv[2], "w"))
os.setgid(65534)
os.setuid(65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0" + sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    payload = pickle.dumps(Evil())
    header = {"is": "hit", "stale": False, "form": "pickle", "size": len(payload)}
    try:
        connection.sendall(json.dumps(header).encode() + b"\\n" + payload)
        told = connection.recv(65536)
    except OSError:
        told = b""
    print("told", told or "nothing", flush=True)
    connection.close()
"""


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of another user where the hub was; it answers with a pickle that makes a file."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root can act as another user")
    argv = [
        sys.executable,
        "-c",
        IMPOSTOR,
        f"voiceops-agentkit-test-{os.getpid()}",
        str(tmp_path / "planted"),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
        process.kill()


async def test_nothing_is_taken_from_another_user_who_bound_the_hubs_name(
    impostor: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert impostor.stdout is not None
    monkeypatch.setenv("VOICEOPS_AGENTKIT_HUB", f"@voiceops-agentkit-test-{os.getpid()}")

    @cached()
    async def read() -> str:
        return "own"

    assert await read() == "own"
    assert await asyncio.to_thread(impostor.stdout.readline) == "told nothing\n"
    report({"step": "call ended", "call_id": "AJ_1", "duration_s": 0.0, "total_s": 0.0, "details": {}})
    assert await asyncio.to_thread(impostor.stdout.readline) == "told nothing\n"
    assert os.listdir(tmp_path) == []


JOB = """
import asyncio, sys
from voiceops.agentkit import cached

@cached(ttl_s=30)
async def read():
    print("fetching", flush=True)
    await asyncio.sleep(float(sys.argv[1]))
    return "data"

print(asyncio.run(read()), flush=True)
"""


def start_job(folder: Path, seconds: float) -> subprocess.Popen[str]:
    script = folder / "job.py"
    if not script.exists():  # a job that starts must not read it while it is written again
        script.write_text(JOB)
    return subprocess.Popen(
        [sys.executable, str(script), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


async def test_job_processes_share_one_fetch_and_survive_the_death_of_the_one_that_fetches(
    tmp_path: Path,
) -> None:
    hub = Hub()
    cache = CacheHub()
    hub.on_cache = cache.handle
    await hub.start()
    jobs: list[subprocess.Popen[str]] = []
    try:
        jobs.append(start_job(tmp_path, 60))
        assert jobs[0].stdout is not None
        assert await asyncio.to_thread(jobs[0].stdout.readline) == "fetching\n"
        jobs += [start_job(tmp_path, 0) for _ in range(3)]
        jobs[0].kill()
        outputs = [(await asyncio.to_thread(job.communicate, timeout=30))[0] for job in jobs[1:]]
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
        await hub.close()

    assert sorted(outputs) == ["data\n", "data\n", "fetching\ndata\n"]
    ((name, counters),) = cache.counters()
    assert name == "__main__.read"
    assert (counters.misses, counters.hits) == (2, 2)
