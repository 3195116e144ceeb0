"""Every command on terminals of 80 x 24 and 200 x 50, with NO_COLOR, with TERM=dumb and into a pipe."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.projects import REPOSITORY, Project, project
from tests.support.servers import IN_THREADS
from tests.support.terminals import on_terminal, plain_lines
from voiceops.cli import output
from voiceops.tasks import namespace
from voiceops.util.terminal import COMMAND, ERROR, OK, WARNING

pytestmark = pytest.mark.timeout(600)
ROOM = "transcript"
ELSEWHERE = "--host=nobody@127.0.0.1:1"
"""A host where nobody listens: commands for servers show their errors."""
COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    ("help", "--all"),
    ("start",),
    ("restart", "agent"),
    ("check-running",),
    ("call",),
    ("call", "--count", "2", "--concurrency", "2"),
    ("capacity", "--most", "0"),
    ("status",),
    ("rooms.dispatch", ROOM, "--wait"),
    ("rooms.wait-agent", ROOM),
    ("rooms.list",),
    ("rooms.show", ROOM),
    ("why",),
    ("why", "--room", "nosuch"),
    ("recover",),
    ("monitor", "--once"),
    ("history",),
    ("history", "--calls", "--since", "1h"),
    ("logs", "--lines", "80"),
    ("rooms.kick", ROOM, "nobody"),
    ("cleanup-rooms",),
    ("rooms.ensure-clean", ROOM),
    ("rooms.delete", ROOM),
    ("rooms.selftest",),
    ("token", "--room", ROOM),
    ("rotate-logs",),
    ("rotate-keys", "--check"),
    ("schedule", "--check", "--remove"),
    ("backup",),
    ("restore",),
    ("inventory", "--graph"),
    ("init",),
    ("open",),
    ("upload", "x"),
    ("start", "--only", "nosuch"),
    ("logs", "--level", "loud"),
    ("setup", ELSEWHERE),
    ("deploy", ELSEWHERE),
    ("rollback", ELSEWHERE),
    ("releases", ELSEWHERE),
    ("drift", ELSEWHERE),
    ("render", ELSEWHERE),
    ("lock", ELSEWHERE),
    ("unlock", ELSEWHERE),
    ("stop",),
    ("check-running",),
)
ELSEWHERE_TESTED = {"completion", "test"}
"""What completion prints is for a shell; test is pytest's output."""
SHORT = [words for words in COMMANDS if words[:1] in ((), ("status",), ("why",), ("logs",), ("rooms.list",))]
STYLED = re.compile(r"\x1b\[([0-9;]+)m([^\x1b]*)\x1b\[0m")
MEANING = {
    "error": ERROR, "failed": ERROR, "warning": WARNING, "fix": COMMAND, "hint": COMMAND, "next": COMMAND,
    "ok": OK, "ready": OK,
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    # It is started often, so by an agent that is up soon.
    entry = REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
    with project(tmp_path_factory.mktemp("transcripts"), entry, agent={"env": dict(IN_THREADS)}) as made:
        yield made


def written(stack: Project, words: Sequence[str], columns: int, lines: int, **variables: str) -> bytes:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"} | stack.env
    environment.pop("NO_COLOR", None)
    return on_terminal(
        [sys.executable, "-m", "voiceops", *words],
        folder=stack.folder,
        environment=environment | variables,
        columns=columns,
        lines=lines,
    )


def too_wide(line: str, columns: int) -> bool:
    """Whether it could have been folded: commands stay whole, and so does a word that is longer than the room."""
    if len(line) <= columns or re.match(r"^\s*(fix|next|done|not done|hint|error): |.*`", line):
        return len(line) > columns and output.folded(line, columns) != [line]
    return max(map(len, line.split())) <= columns // 2


def test_every_command_has_its_turn() -> None:
    known = set(namespace.task_names)
    assert {words[0] for words in COMMANDS if words} - {"help", "upload"} | ELSEWHERE_TESTED >= known


@pytest.mark.slow
def test_with_no_color_no_command_writes_escapes_or_lines_wider_than_80_columns(stack: Project) -> None:
    for words in COMMANDS:
        shown = written(stack, words, 80, 24, NO_COLOR="1")
        assert b"\x1b" not in shown, (words, shown)
        assert [line for line in plain_lines(shown) if too_wide(line, 80)] == [], words
        assert shown, words


@pytest.mark.slow
def test_a_colour_means_the_same_in_every_command_on_200_columns(stack: Project) -> None:
    stack.inv("start")
    painted: dict[str, set[str]] = {}
    for words in COMMANDS:
        if ELSEWHERE in words and words[0] not in ("deploy", "drift"):
            continue  # they fail alike
        shown = written(stack, words, 200, 50)
        assert [line for line in plain_lines(shown) if too_wide(line, 200)] == [], words
        for style, text in STYLED.findall(shown.decode(errors="replace")):
            painted.setdefault(text.strip(), set()).add(style)
    assert {"error", "hint", "next", "ok", "ready"} <= set(painted)
    for word in MEANING.keys() & painted.keys():
        assert painted[word] == {MEANING[word]}, word


@pytest.mark.parametrize("columns", [80, 200])
def test_why_and_errors_are_coloured(stack: Project, columns: int) -> None:
    stack.inv("start", "--only", "livekit")
    stack.inv("stop", "agent")
    wrong = written(stack, ("start", "--only", "nosuch"), columns, 24)
    assert wrong.startswith(b"\x1b[31merror\x1b[0m: ")
    assert b"\x1b[36mhint\x1b[0m: " in wrong
    findings = written(stack, ("why",), columns, 24)
    assert b"\x1b[31merror\x1b[0m: " in findings
    assert b"\x1b[36mfix\x1b[0m: " in findings


def test_a_dumb_terminal_and_a_pipe_get_no_escapes(stack: Project) -> None:
    stack.inv("start")
    for words in SHORT:
        assert b"\x1b" not in written(stack, words, 80, 24, TERM="dumb"), words
        piped = stack.inv(*words, code=None)
        assert "\x1b" not in piped.out + piped.err, words


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
def test_tmux_shows_no_line_that_it_had_to_wrap(stack: Project, columns: int, lines: int) -> None:
    tmux = shutil.which("tmux") or parts.missing("tmux", "install the package tmux")
    stack.inv("start")
    server = [tmux, "-L", f"voiceops-{os.getpid()}-{columns}", "-f", "/dev/null"]
    words = f"{shlex.quote(sys.executable)} -m voiceops"
    script = f"{words} status; {words} why; {words} start --only nosuch; echo all-done; sleep 600"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | stack.env
    size = ["-x", str(columns), "-y", str(lines)]
    subprocess.run(
        [*server, "new-session", "-d", *size, "sh", "-c", script],
        cwd=stack.folder,
        env=environment,
        check=True,
    )
    try:
        ends_at = time.monotonic() + 120
        while "all-done" not in (screen := _screen(server)):
            assert time.monotonic() < ends_at, screen
            time.sleep(0.2)
    finally:
        subprocess.run([*server, "kill-server"], check=False)
    joined = screen.splitlines()
    assert any(line.startswith("livekit") and " ready " in line for line in joined), screen
    assert any(line.startswith(("No fault found", "error: ", "warning: ", "info: ")) for line in joined), (
        screen
    )
    assert any(line.startswith("error: no service 'nosuch'") for line in joined), screen
    assert [line for line in joined if too_wide(line, columns)] == []


def _screen(server: list[str]) -> str:
    """What stands on the screen and above it, lines that tmux had to wrap joined again."""
    shown = subprocess.run(
        [*server, "capture-pane", "-p", "-J", "-S", "-200"], capture_output=True, text=True, check=False
    )
    return "\n".join(line.rstrip() for line in shown.stdout.splitlines())


def test_a_healthy_call_leaves_no_traceback_in_the_agents_log(tmp_path: Path) -> None:
    example = REPOSITORY / "examples" / "agent" / "agent.py"
    with project(tmp_path, example, agent={"env": {"LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE": "0"}}) as made:
        made.inv("start")
        made.inv("call")
        ends_at = time.monotonic() + 30
        while "worker ready for next" not in (log := made.inv("logs", "agent").out):
            assert time.monotonic() < ends_at, log
            time.sleep(0.5)
    assert "call answered" in log
    assert "Traceback" not in log
    assert "closed unexpectedly" not in log
    assert re.findall(r"^agent \| \S+ \S+ error .*", log, re.MULTILINE) == []


def test_reads_of_our_own_status_do_not_stand_in_the_logs(stack: Project) -> None:
    stack.inv("start")
    stack.inv("status")
    assert "ListRooms" not in stack.inv("logs", "livekit").out
    assert "ListRooms" in stack.inv("logs", "livekit", "--level", "debug").out
