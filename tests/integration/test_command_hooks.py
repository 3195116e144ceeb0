"""``kind: command`` with a file of variables and commands before each start, as real processes."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import stacks

STEP = "import os, pathlib; print('step', os.environ['COLOUR'], os.environ['SIZE']); pathlib.Path('made').touch()"


def test_commands_before_a_start_have_its_variables_and_decide_whether_it_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "colours.env").write_text("COLOUR='deep blue'  # of the sea\nSIZE=1\n")
    service = stacks.cheap_services(["work"])["work"] | {
        "env_file": "colours.env",
        "env": {"SIZE": "2"},
        "before_start": [[sys.executable, "-c", STEP], ["test", "-e", "made"]],
    }
    with stacks.project(folder, {"work": service}) as made:
        (pid,) = made.json("start")["hosts"]["localhost"]["services"]["work"]["pids"]
        assert "step deep blue 2" in (folder / ".voiceops/logs/work.log").read_text()
        assert b"COLOUR=deep blue" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (folder / "made").unlink()
        assert made.json("start")["changed_count"] == 0
        assert not (folder / "made").exists(), "what runs is not prepared again"

        (folder / "colours.env").write_text("COLOUR=red\n")
        assert made.json("start")["changed_count"] == 1
        service["before_start"] = [["sh", "-c", "echo no database; exit 7"], ["touch", "never"]]
        stacks.write_inventory(folder, {"work": service})
        error = made.json("start", code=1)["hosts"]["localhost"]["error"]
        assert error["message"] == "work was not started: sh of before_start exits 7"
        assert error["log"][-1] == "no database"
        assert not (folder / "never").exists()
