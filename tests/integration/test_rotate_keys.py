"""LiveKit's keys are replaced in steps that can be cut off; both are accepted until everything has moved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.projects import REPOSITORY, Project, project
from tests.support.servers import IN_THREADS
from voiceops.adapters.livekit.credentials import refusal
from voiceops.config.source.dotenv import parse
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings

pytestmark = pytest.mark.timeout(240)
TONE = Path(__file__).parent / "agents" / "tone.py"
KEY, SECRET = "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """LiveKit and an agent whose keys stand in .env alone."""
    with project(
        tmp_path_factory.mktemp("rotated") / "project", TONE, agent={"env": dict(IN_THREADS)}
    ) as made:
        keys = {name: made.env.pop(name) for name in (KEY, SECRET)}
        (made.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in keys.items()))
        made.inv("start")
        yield made


def keys_of(stack: Project) -> dict[str, str]:
    return parse((stack.folder / ".env").read_text())


def refused(stack: Project, key: str, secret: str) -> bool:
    return bool(refusal(LivekitSettings(url=stack.url, api_key=Secret(key), api_secret=Secret(secret))))


def test_a_rotation_that_is_killed_goes_on_and_the_server_accepts_both_keys_until_the_end(
    stack: Project,
) -> None:
    before = keys_of(stack)
    server, agent = stack.pid("livekit"), stack.pid("agent")
    command = [sys.executable, "-m", "voiceops", "--project", str(stack.folder), "rotate-keys"]
    with subprocess.Popen(
        command,
        cwd=stack.folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | stack.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stderr is not None
        assert any("2 of 3" in line for line in killed.stderr), "it never came to its second step"
        killed.kill()
    between = keys_of(stack)
    assert between[f"{KEY}_PREVIOUS"] == before[KEY]
    assert not refused(stack, before[KEY], before[SECRET])
    assert not refused(stack, between[KEY], between[SECRET])
    both = stack.pid("livekit")
    assert both != server
    assert "next is 2 of 3" in stack.inv("rotate-keys", "--check", code=2).out

    kept = stack.inv("rotate-keys", "--keep-previous", "--json").json
    assert kept["step"] == "use"
    assert (stack.pid("livekit"), stack.pid("agent") != agent) == (both, True), "only the agent moves"
    assert not refused(stack, before[KEY], before[SECRET])

    assert stack.inv("rotate-keys", "--json").json["step"] == "done"
    assert keys_of(stack) == {name: between[name] for name in (KEY, SECRET)}
    assert refused(stack, before[KEY], before[SECRET])
    stack.inv("check-running")
    stack.inv("call")


def test_keys_that_stand_elsewhere_are_not_written_and_it_says_where_they_go(stack: Project) -> None:
    stack.env[KEY] = keys_of(stack)[KEY]
    try:
        answer = stack.inv("rotate-keys", code=3)
    finally:
        del stack.env[KEY]
    assert f"{KEY} is set in the environment" in answer.err
    assert "livekit.next_api_key" in answer.err


def test_keys_that_somebody_else_writes_are_rotated_step_by_step_as_it_says(stack: Project) -> None:
    old = keys_of(stack)
    (stack.folder / ".env").write_text("")
    new = {KEY: f"{old[KEY]}-new", SECRET: f"a-new-{old[SECRET]}"}
    livekit = stack.variables["livekit"]
    before = dict(livekit)

    def named(prefix: str, pair: dict[str, str]) -> None:
        for setting, name in (("api_key", KEY), ("api_secret", SECRET)):
            file = stack.folder / f"{prefix}{setting}.txt"
            file.write_text(f"{pair[name]}\n")
            livekit[f"{prefix}{setting}"] = {"file": file.name}
        stack.write()

    try:
        named("", old)
        assert "livekit.next_api_key" in stack.inv("rotate-keys", code=3).err
        named("next_", new)
        assert "next is 1 of 3" in stack.inv("rotate-keys", "--check", code=2).out
        assert "previous_api_key" in stack.inv("rotate-keys").out
        assert not refused(stack, old[KEY], old[SECRET])
        assert not refused(stack, new[KEY], new[SECRET])

        server, agent = stack.pid("livekit"), stack.pid("agent")
        del livekit["next_api_key"], livekit["next_api_secret"]
        named("previous_", old)
        named("", new)
        last = stack.inv("rotate-keys").out
        assert "`inv start --drain 600`" in last.replace("./inv", "inv")
        assert (stack.pid("livekit"), stack.pid("agent") != agent) == (server, True), "only the agent moves"
        assert not refused(stack, old[KEY], old[SECRET])

        del livekit["previous_api_key"], livekit["previous_api_secret"]
        stack.write()
        stack.inv("start", "--drain", "600")
        assert refused(stack, old[KEY], old[SECRET])
        stack.inv("check-running")
        stack.inv("call")
    finally:
        livekit.clear()
        livekit.update(before)
        stack.write()
        (stack.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in new.items()))
