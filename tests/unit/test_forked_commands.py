"""A command that is forked off a running process does what ``python -m voiceops`` does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.forked_commands import REPOSITORY, run_command


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["inventory", "--list"], ["strat"], ["check-running", "--json"], ["init"]],
    ids=" ".join,
)
def test_it_prints_and_exits_as_one_of_its_own(tmp_path: Path, arguments: list[str]) -> None:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "VOICEOPS_INVENTORY": ""}
    forked, own = tmp_path / "forked" / "shop", tmp_path / "own" / "shop"
    for folder in (forked, own):
        folder.mkdir(parents=True)
        (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
        (folder / "inventory.yaml").write_text('{"all": {"vars": {"project": "shop"}}}')
    expected = subprocess.run(
        [sys.executable, "-m", "voiceops", *arguments],
        cwd=own,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    done = run_command(arguments, cwd=forked, env=env, timeout_s=60)
    assert (done.returncode, done.stdout, done.stderr) == (
        expected.returncode,
        expected.stdout.replace(str(own), str(forked)),
        expected.stderr.replace(str(own), str(forked)),
    )
    assert sorted(os.listdir(forked)) == sorted(os.listdir(own))


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, time\nfrom invoke import task\n"
        "@task\ndef wait(c):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(100)\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with pytest.raises(subprocess.TimeoutExpired):
        run_command(["wait"], cwd=tmp_path, env=env, timeout_s=3)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it runs on")


def test_one_that_ends_by_a_signal_or_an_exception_says_so(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, signal\nfrom invoke import task\n"
        "@task\ndef die(c):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "@task\ndef fail(c):\n    raise RuntimeError('no database')\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert run_command(["die"], cwd=tmp_path, env=env, timeout_s=60).returncode == -9
    failed = run_command(["fail"], cwd=tmp_path, env=env, timeout_s=60)
    assert failed.returncode == 1
    assert "RuntimeError: no database" in failed.stderr


def test_several_at_once_do_not_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, time\nfrom invoke import task\n"
        "@task\ndef meet(c, mine, other):\n"
        "    os.mkdir(mine)\n"
        "    while not os.path.exists(other): time.sleep(0.01)\n"
        "    print(mine)\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    printed: list[str] = []

    def meet(mine: str, other: str) -> None:
        printed.append(run_command(["meet", mine, other], cwd=tmp_path, env=env, timeout_s=60).stdout)

    threads = [threading.Thread(target=meet, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(printed) == ["a\n", "b\n"]
