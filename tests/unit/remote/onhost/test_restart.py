"""What the root helper takes for a request, and which units it takes for wanted."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import socket
import time
from pathlib import Path

import pytest

from voiceops.remote.onhost import restart

RUNNING = {"ActiveState": "active", "Job": "0"}


def requested(data: bytes) -> tuple[str, str]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return restart.read_request(ours, "desk")


@pytest.mark.parametrize(
    ("line", "unit", "service"),
    [
        (b"restart desk-web.service\n", "desk-web.service", "web"),
        (b"restart desk-agent@1f.2.service\n", "desk-agent@1f.2.service", "agent"),
    ],
)
def test_a_unit_of_the_project_is_a_request(line: bytes, unit: str, service: str) -> None:
    assert requested(line) == (unit, service)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"restart desk-web.service",
        b"restart ssh.service\n",
        b"restart desk-web.socket\n",
        b"restart desk-web.service ssh.service\n",
        b"restart --now desk-web.service\n",
        b"restart desk-../web.service\n",
        b"restart desk-web.service\nrestart ssh.service\n",
        b"stop desk-web.service\n",
        b"restart desk-" + b"x" * 400 + b".service\n",
        b"restart desk-w\xc3\xa9b.service\n",
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(restart.Refused):
        requested(line)


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        (RUNNING, True),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, True),
        ({"ActiveState": "inactive"}, False),
        ({"ActiveState": "deactivating", "Job": "0"}, True),
        ({"ActiveState": "deactivating", "Job": "17"}, False),
        (
            {
                "ActiveState": "failed",
                "ExecMainExitTimestampMonotonic": "5000000",
                "InactiveEnterTimestampMonotonic": "7000000",
            },
            True,
        ),
        (
            {
                "ActiveState": "failed",
                "ExecMainExitTimestampMonotonic": "5000000",
                "InactiveEnterTimestampMonotonic": "5010000",
            },
            False,
        ),
        ({}, False),
    ],
)
def test_a_unit_is_wanted_unless_somebody_has_stopped_it(unit: dict[str, str], wanted: bool) -> None:
    assert restart.is_wanted(unit) is wanted


def test_a_peer_of_another_user_or_another_unit_may_not_ask() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(restart.Refused, match="this user"):
            restart.check_peer(ours, "nobody", "desk-monitor.service")
        own = pwd.getpwuid(os.getuid()).pw_name
        with pytest.raises(restart.Refused, match="only the monitor"):
            restart.check_peer(ours, own, "desk-monitor.service")


def lease(path: Path, *, held: bool, expires_in_s: float = 60.0) -> None:
    path.write_text(
        json.dumps({"owner": "ann", "held": held, "token": "t", "expires": time.time() + expires_in_s})
    )


def test_the_lock_is_free_held_or_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    assert restart.held_by(str(path)) == ""
    path = tmp_path / "held"
    lease(path, held=True)
    assert restart.held_by(str(path)) == "ann"
    path = tmp_path / "booted"
    lease(path, held=True)
    os.utime(path, (0, 0))
    assert restart.held_by(str(path)) == "", "of an earlier boot"
    path = tmp_path / "late"
    lease(path, held=True, expires_in_s=-1.0)
    assert restart.held_by(str(path)) == ""
    path = tmp_path / "running"
    lease(path, held=False)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert restart.held_by(str(path)) == "ann"
        path.write_text("")
        assert restart.held_by(str(path)) == "a run that just began"
    path = tmp_path / "killed"
    lease(path, held=False)
    assert restart.held_by(str(path)) == "", "a run that was killed holds nothing"
