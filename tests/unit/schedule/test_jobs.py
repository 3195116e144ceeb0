"""Crontabs and units as text: quoting, merging, refusing."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import parts
from voiceops.config.source.templating import Renderer
from voiceops.errors import UsageError
from voiceops.schedule.jobs import (
    ScheduleBackend,
    ScheduleContext,
    cron_text,
    jobs,
    merged_crontab,
    script_text,
    unit_texts,
)
from voiceops.stack.local.folder import ProjectFolder

RENDER = Renderer((Path(__file__).parents[3] / "templates",))
ODD = "/srv/a b/100% $HOME `x` 'q' \"d\""


def place(root: str = ODD) -> ScheduleContext:
    return ScheduleContext(
        project="shop",
        root=Path(root),
        command=(f"{root}/inv",),
        path="/usr/bin:/bin",
        environment={"ROOM_STALE_TIMEOUT": "60 s"},
        user="deploy",
    )


def test_a_line_of_cron_names_the_script_so_that_cron_and_sh_both_read_it() -> None:
    lines = cron_text(place(), jobs(5), ScheduleBackend.CRON_D, RENDER).splitlines()
    fields = lines[1].split(" ", 6)
    assert fields[:6] == ["*/5", "*", "*", "*", "*", "deploy"]
    assert "%" not in fields[6].replace("\\%", "")
    after_cron = fields[6].replace("\\%", "%")
    assert shlex.split(after_cron) == [f"{ODD}/.voiceops/schedule/cleanup-rooms"]


def test_a_crontab_of_a_user_has_no_user_field() -> None:
    assert "deploy" not in cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)


def test_the_script_is_valid_shell_and_names_absolute_paths() -> None:
    script = script_text(place(), jobs(5)[0], RENDER)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert f"cd {shlex.quote(ODD)} " in script
    assert "ROOM_STALE_TIMEOUT='60 s'" in script


@pytest.mark.parametrize("before", ["", "# mine\n0 1 * * * x\n", "0 1 * * * x"])
def test_merging_a_crontab_twice_changes_nothing_more_and_removing_restores_it(before: str) -> None:
    block = cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    once = merged_crontab(before, place("/srv/x"), block)
    assert once.startswith(before)
    assert merged_crontab(once, place("/srv/x"), block) == once
    assert merged_crontab(once, place("/srv/x"), "").rstrip("\n") == before.rstrip("\n")


def test_another_interval_replaces_the_block_where_it_stands() -> None:
    old = cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    new = cron_text(place("/srv/x"), jobs(7), ScheduleBackend.CRONTAB, RENDER)
    crontab = f"# first\n{old}# last\n"
    assert merged_crontab(crontab, place("/srv/x"), new) == f"# first\n{new}# last\n"


def test_two_projects_of_one_name_don_t_touch_each_other() -> None:
    first = cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    second = cron_text(place("/srv/y"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    both = merged_crontab(first, place("/srv/y"), second)
    assert both == first + second
    assert merged_crontab(both, place("/srv/x"), "") == second


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x85\u2028\u2029")))
def test_any_crontab_keeps_its_own_lines(before: str) -> None:
    block = cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    merged = merged_crontab(before, place("/srv/x"), block)
    assert merged_crontab(merged, place("/srv/x"), "").rstrip("\n") == before.rstrip("\n")


def test_a_path_with_a_line_break_is_refused() -> None:
    with pytest.raises(UsageError):
        cron_text(place("/srv/a\n* * * * * root rm"), jobs(5), ScheduleBackend.CRON_D, RENDER)


def test_a_path_that_cron_can_t_take_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        cron_text(place("/" + "x" * 1000), jobs(5), ScheduleBackend.CRON_D, RENDER)


@pytest.mark.parametrize("minutes", [0, -1, 60])
def test_an_interval_that_cron_can_t_express_is_refused(minutes: int) -> None:
    with pytest.raises(UsageError):
        jobs(minutes)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        parts.missing("systemd-analyze", "install systemd")
    odd = tmp_path / "a 100% $HOME"
    for name, text in unit_texts(place(str(odd)), jobs(5), ScheduleBackend.SYSTEMD, RENDER).items():
        (tmp_path / name).write_text(text.replace("User=deploy\n", ""))
    units = [str(one) for one in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=30)
    ours = [line for line in done.stderr.splitlines() if "voiceops" in line]
    assert (done.returncode, ours) == (0, [])


def test_only_with_boot_is_the_stack_started_when_the_machine_comes_up() -> None:
    assert "@reboot" not in cron_text(place("/srv/x"), jobs(5), ScheduleBackend.CRONTAB, RENDER)
    lines = cron_text(place("/srv/x"), jobs(5, boot=True), ScheduleBackend.CRON_D, RENDER).splitlines()
    assert "@reboot deploy /srv/x/.voiceops/schedule/start" in lines
    units = unit_texts(place("/srv/x"), jobs(5, boot=True), ScheduleBackend.SYSTEMD_USER, RENDER)
    start = {name: text for name, text in units.items() if "-start." in name}
    assert sorted("KillMode=process" in text for text in start.values()) == [False, True]
    assert sorted("OnStartupSec=1s" in text for text in start.values()) == [False, True]


def test_only_with_backup_is_there_a_backup_each_night() -> None:
    assert not any(job.name == "backup" and job.wanted for job in jobs(5))
    (job,) = [job for job in jobs(5, backup=True) if job.name == "backup"]
    assert job.arguments == ("backup", "--quiet", "--keep", "7")
    lines = cron_text(place("/srv/x"), (job,), ScheduleBackend.CRON_D, RENDER).splitlines()
    assert "17 3 * * * deploy /srv/x/.voiceops/schedule/backup" in lines
    units = unit_texts(place("/srv/x"), (job,), ScheduleBackend.SYSTEMD_USER, RENDER)
    assert any("OnCalendar=*-*-* 03:17" in text for text in units.values())


def test_with_boot_a_monitor_that_nobody_has_stopped_is_started_again(tmp_path: Path) -> None:
    mark = ProjectFolder(tmp_path).wanted_mark("monitor")
    found = {job.name: job for job in jobs(5, boot=True, monitor="monitor", wanted_mark=mark) if job.wanted}
    assert found["monitor"].arguments == ("start", "--only", "monitor")
    assert not any(
        job.name == "monitor" for job in (*jobs(5, monitor="m"), *jobs(5, boot=True)) if job.wanted
    )
    wrapper = tmp_path / "inv"
    wrapper.write_text('#!/bin/sh\necho "$@" >> called\n')
    wrapper.chmod(0o755)
    (tmp_path / ".voiceops" / "schedule").mkdir(parents=True)
    (tmp_path / ".voiceops" / "logs").mkdir()
    script = script_text(place(str(tmp_path)), found["monitor"], RENDER)
    subprocess.run(["sh", "-c", script], check=True)
    assert not (tmp_path / "called").exists(), "a person has stopped it"
    mark.parent.mkdir()
    mark.touch()
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "called").read_text() == "start --only monitor\n"
