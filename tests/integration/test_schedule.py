"""The schedule under a real cron daemon."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import onhost
from tests.support import live, parts
from tests.support.hosts import Machine
from tests.support.projects import Project
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.config.source.templating import Renderer
from voiceops.model.secret import Secret
from voiceops.schedule.jobs import ScheduleBackend, ScheduleContext, jobs, unit_texts


def write_project(folder: Path, url: str, server: live.LiveServer, name: str) -> Project:
    folder.mkdir()
    made = Project(
        folder=folder,
        url=url,
        variables={
            "project": name,
            "livekit": {
                "url": url,
                "api_key": {"env": "LIVEKIT_API_KEY"},
                "api_secret": {"env": "LIVEKIT_API_SECRET"},
            },
            "rooms": {"stale_after_s": 0.1},
        },
    )
    made.write()
    (folder / ".env").write_text(
        f"LIVEKIT_API_KEY={server.api_key}\nLIVEKIT_API_SECRET='{server.api_secret}'\n"
    )
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    return made


@pytest.fixture
def project(livekit: live.LiveServer, tmp_path: Path) -> Iterator[Project]:
    """A project whose path cron, sh and systemd all could trip over."""
    made = write_project(tmp_path / "a 100% 'odd' $HOME", livekit.url, livekit, f"sched{os.getpid()}")
    yield made
    made.inv("schedule", "--remove")


@pytest.fixture
def cron() -> Iterator[None]:
    """Debian's cron in the foreground until the test ends."""
    if os.geteuid() != 0 or not shutil.which("cron"):
        parts.missing("cron", "install Debian's cron and run as root")
    process = subprocess.Popen(["cron", "-f"], start_new_session=True)
    try:
        yield
    finally:
        live.end(process)


def script(project: Project, name: str) -> Path:
    return project.folder / ".voiceops" / "schedule" / name


async def rooms_named(server: live.LiveServer, name: str, *, make: bool = False) -> int:
    async with LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret)) as api:
        if make:
            await api.create_room(name, agents=["__nobody__"])
        return len(await api.list_rooms([name]))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_cron_cleans_rooms_and_a_failure_is_told_with_its_cause(
    cron: None, project: Project, livekit: live.LiveServer, tmp_path: Path
) -> None:
    """One test, because cron's smallest step is a minute."""
    broken = write_project(tmp_path / "broken", "ws://127.0.0.1:1", livekit, f"broken{os.getpid()}")
    project.inv("schedule", "--every", "1")
    broken.inv("schedule", "--every", "1")
    log = broken.folder / ".voiceops" / "logs" / "schedule.log"
    try:
        asyncio.run(rooms_named(livekit, "for cron", make=True))
        ends_at = time.monotonic() + 150
        while time.monotonic() < ends_at:
            if not asyncio.run(rooms_named(livekit, "for cron")) and log.exists() and log.read_text():
                break
            time.sleep(0.5)
        assert asyncio.run(rooms_named(livekit, "for cron")) == 0
        told = log.read_text()
        assert "cleanup-rooms failed with exit code 5" in told
        assert "can't be reached" in told
        assert "to see more: cd" in told
        assert not (project.folder / ".voiceops" / "logs" / "schedule.log").exists()
    finally:
        broken.inv("schedule", "--remove")


def test_a_second_schedule_changes_nothing_and_removing_leaves_nothing(project: Project) -> None:
    planned = project.inv("schedule", "--check", "--json", code=2).json
    assert not script(project, "cleanup-rooms").exists()
    done = project.inv("schedule", "--json").json
    assert done["hosts"]["localhost"]["resources"] == planned["hosts"]["localhost"]["resources"]
    assert project.inv("schedule", "--json").json["changed_count"] == 0
    assert project.inv("schedule", "--check", "--json").json["changed_count"] == 0
    assert project.inv("schedule", "--every", "7", "--json").json["changed_count"] == 1
    assert project.inv("schedule", "--remove", "--json").json["changed_count"] == 3
    assert project.inv("schedule", "--remove", "--json").json["changed_count"] == 0
    assert list(script(project, "").iterdir()) == []


def test_the_script_is_silent_on_success_and_skips_while_the_last_run_is_at_it(project: Project) -> None:
    project.inv("schedule")
    # As little environment as cron gives.
    bare = {"HOME": "/root", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    for name in ("cleanup-rooms", "rotate-logs"):
        done = subprocess.run([script(project, name)], env=bare, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (project.folder / "inventory.yaml").write_text("all: [")
    with script(project, "cleanup-rooms.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [script(project, "cleanup-rooms")], env=bare, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, "")
    done = subprocess.run(
        [script(project, "cleanup-rooms")], env=bare, capture_output=True, text=True, timeout=60
    )
    project.write()  # before anything can fail: what ends the test needs it
    assert done.returncode == 3
    assert "not valid YAML" in done.stdout


def test_a_key_that_only_this_shell_knows_is_refused(project: Project, livekit: live.LiveServer) -> None:
    (project.folder / ".env").rename(project.folder / "hidden")
    project.env = livekit.environment()
    refused = project.inv("schedule", code=3)
    assert "set in this shell only" in refused.err
    assert livekit.api_secret not in refused.err
    (project.folder / "hidden").rename(project.folder / ".env")


def test_logs_that_have_grown_are_rotated(project: Project) -> None:
    project.variables["services"] = {"one": {"kind": "command", "command": ["true"], "log_max_bytes": 10}}
    project.write()
    log = project.folder / ".voiceops" / "logs" / "one.log"
    log.parent.mkdir(parents=True)
    log.write_text("more than ten bytes\n")
    assert project.inv("rotate-logs", "--json").json["hosts"]["localhost"]["rotated"] == ["one"]
    assert log.with_name("one.log.1").read_text() == "more than ten bytes\n"
    assert project.inv("rotate-logs", "--json").json["hosts"]["localhost"]["rotated"] == []


def test_a_real_systemd_runs_the_job_by_its_timer(host: Machine) -> None:
    """The rendered units, on a host with systemd; what they start is a script of the test."""
    render = Renderer((Path(__file__).parents[2] / "templates",))
    place = ScheduleContext(
        project="timed",
        root=Path("/srv/a 100% 'odd' $HOME \"d\""),
        command=("true",),
        path="/usr/bin:/bin",
        user="root",
    )
    cleanup, *_ = all_jobs = jobs(1)
    marker = "/run/schedule-was-here"
    host.write(str(place.script(cleanup)), f"#!/bin/sh\nid -un > {marker}\n", mode=0o755)
    units = unit_texts(place, all_jobs, ScheduleBackend.SYSTEMD, render)
    for name, text in units.items():
        host.write(f"/etc/systemd/system/{name}", text)
    timer = f"{place.label}-cleanup-rooms.timer"
    service = timer.replace(".timer", ".service")
    host.shell(f"systemctl daemon-reload && systemctl enable --now {timer}")
    listed = host.shell(f"systemctl list-timers --no-legend {timer}").stdout
    assert service in listed
    with onhost.elapsing(host, timer):
        host.shell(f"timeout 20 sh -c 'until [ -s {marker} ]; do sleep 0.05; done'")
    assert host.read(marker).strip() == "root"
    host.shell(f"systemctl disable --now {timer} && rm /etc/systemd/system/{place.label}-*")
