"""Forty-odd mistakes that people make, each with the command that meets it: run for real, shown in docs/mistakes.md.

``python -m tests.support.mistakes`` writes the document; tests/integration/test_mistakes.py compares it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import stacks
from tests.support.forked_commands import run_command

DOCUMENT = stacks.REPOSITORY / "docs" / "mistakes.md"
SECRET = "0123456789abcdef0123456789abcdef"
GOOD: dict[str, Any] = {
    "project": "shop",
    "livekit": {
        "url": "ws://127.0.0.1:1",
        "api_key": {"env": "LIVEKIT_API_KEY"},
        "api_secret": {"env": "LIVEKIT_API_SECRET"},
    },
    "services": {
        "web": {"kind": "command", "command": ["sleep", "60"]},
        "agent": {"kind": "agent", "entry": "agent.py", "ready_timeout_s": 60},
    },
}
AGENT = "from livekit.agents import AgentServer\n\nserver = AgentServer()\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake and the words that its first line must hold."""

    group: str
    what: str
    command: str
    """As typed, without ``inv``."""
    names: tuple[str, ...]
    """The thing and its place."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Merged over the inventory's variables, two levels deep."""
    files: dict[str, str | None] = field(default_factory=dict)
    """Path -> content; None: it is missing."""
    taken_port: bool = False
    """Another program listens on the port ``PORT``."""

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.what).strip("-")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the command printed."""

    code: int
    first_line: str
    hint: str
    output: str


def ask(mistake: Mistake, parent: Path) -> Answer:
    """Make the mistake in a project of its own."""
    folder = parent / "shop"
    folder.mkdir()
    with _listener() if mistake.taken_port else _nobody() as port:
        _write(folder, mistake, port)
        environment = stacks.Project(folder).environment() | {"COLUMNS": "400"}
        try:
            words = ["--project", str(folder), *_words(mistake.command)]
            done = run_command(words, cwd=folder, env=environment, timeout_s=240)
        finally:
            stacks.end_all(folder)
    said = _neutral(done.stderr, folder, port)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in said.splitlines() if line.startswith("hint: ")]
    return Answer(
        done.returncode, errors[0] if errors else "", hints[-1] if hints else "", done.stdout + said
    )


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)


def _neutral(text: str, folder: Path, port: int) -> str:
    """The same on every machine and in every run."""
    text = text.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    text = text.replace(str(folder), "shop").replace(str(port), "PORT")
    text = re.sub(rf"{re.escape(sys.executable)}\S*", "python", text)
    text = re.sub(r"python -S -c import .*", "python -S -c ...", text)  # cut off where its path ends
    text = re.sub(r"\(\S*/(voiceops/\S+?):\d+\)", r"(\1)", text)
    text = re.sub(r"\(\d+ s old\)", "(SECONDS old)", text)
    return re.sub(r"\bpid \d+", "pid PID", text)


def _write(folder: Path, mistake: Mistake, port: int) -> None:
    variables = json.loads(json.dumps(GOOD))
    for key, value in json.loads(json.dumps(mistake.variables).replace('"PORT"', str(port))).items():
        if isinstance(value, dict) and isinstance(variables.get(key), dict):
            variables[key] |= value
        else:
            variables[key] = value
    files: dict[str, str | None] = {
        "tasks.py": "from voiceops.tasks import namespace\n",
        "inventory.yaml": json.dumps({"all": {"vars": variables}}, indent=2) + "\n",
        ".env": f"LIVEKIT_API_KEY=APIshop\nLIVEKIT_API_SECRET={SECRET}\n",
        "agent.py": AGENT,
        **mistake.files,
    }
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(content)


@contextmanager
def _listener() -> Iterator[int]:
    """A program of somebody else on a port."""
    program = "import socket,time; s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)"
    with stacks.foreign(sys.executable, "-S", "-c", program, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        yield int(other.stdout.readline())
        other.stdout.close()


@contextmanager
def _nobody() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def row(mistake: Mistake, answer: Answer) -> str:
    """One row of the table."""
    cells = (mistake.what, f"`inv {mistake.command}`", answer.first_line.removeprefix("error: "), answer.hint)
    shown = " | ".join(cell.replace("|", r"\|") for cell in cells)
    return f"| {shown} | {answer.code} |"


HEAD = """\
# What a mistake prints

The first line names the thing and its place, the hint is the next step. Rendered from the commands themselves
(`python -m tests.support.mistakes`), in a project `shop`.
"""
COLUMNS = "| mistake | command | error | hint | exit |\n|---|---|---|---|---|"


def document(rows: dict[str, list[str]]) -> str:
    """The whole page; ``rows``: group -> its rows."""
    parts = [HEAD]
    for group, lines in rows.items():
        parts.append(f"\n## {group}\n\n{COLUMNS}\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def main() -> None:
    """Make all mistakes and write the page."""
    rows: dict[str, list[str]] = {}
    for mistake in MISTAKES:
        with tempfile.TemporaryDirectory() as parent:
            answer = ask(mistake, Path(parent))
        rows.setdefault(mistake.group, []).append(row(mistake, answer))
        missing = [name for name in mistake.names if name not in answer.first_line]
        print(f"{answer.code} {mistake.what}: {answer.first_line}\n    {answer.hint or 'NO HINT'}")
        if missing or not answer.first_line:
            print(f"    MISSING {missing}\n{answer.output}")
    DOCUMENT.write_text(document(rows))


def _arguments(what: str, command: str, *names: str) -> Mistake:
    return Mistake(group="Arguments", what=what, command=command, names=names)


def _inventory(what: str, command: str, *names: str, **changes: Any) -> Mistake:
    return Mistake(group="Inventory", what=what, command=command, names=names, **changes)


def _files(what: str, command: str, *names: str, **changes: Any) -> Mistake:
    return Mistake(group="Files", what=what, command=command, names=names, **changes)


def _agent(what: str, code: str, *names: str) -> Mistake:
    return Mistake(
        group="Agent code", what=what, command="start agent", names=names, files={"agent.py": code}
    )


def _web(**settings: Any) -> dict[str, Any]:
    return {"services": {"web": {"kind": "command", "command": ["sleep", "60"], **settings}}}


def _keys(what: str, *names: str, secret: object, command: str = "rooms.list") -> Mistake:
    livekit = {"livekit": {"api_secret": secret}}
    return Mistake(group="Keys", what=what, command=command, names=names, variables=livekit)


MISTAKES: tuple[Mistake, ...] = (
    _arguments("a command is misspelled", "strat", "'strat'"),
    _arguments("a flag is misspelled", "start --onyl agent", "start", "--onyl"),
    _arguments("a service is misspelled", "start agnet", "'agnet'"),
    _arguments("a number is no number", "call --count abc", "--count", "'abc'"),
    _arguments("a number is negative", "call --count -1", "--count", "-1"),
    _arguments("a timeout is negative", "start --timeout -5", "--timeout", "-5"),
    _arguments("a number of lines is negative", "logs --lines -5", "--lines", "-5"),
    _arguments("a time is no time", "logs --since yesterday", "--since", "'yesterday'"),
    _arguments("a level does not exist", "logs --level loud", "--level", "'loud'"),
    _arguments("a pattern is no regular expression", "logs --grep '('", "--grep", "'('"),
    _arguments("a room is not named", "rooms.delete", "rooms.delete", "ROOM"),
    _arguments("a flag stands in place of a room", "rooms.dispatch --check", "rooms.dispatch", "--check"),
    _arguments("a flag lacks its value", "start --only", "start", "--only"),
    _arguments("flags contradict each other", "stop --now --drain 5", "--now", "--drain"),
    _arguments("an option of Invoke has no meaning", "--dry stop", "--dry"),
    _arguments("a name is empty", "start --only web,,agent", "web,,agent"),
    _arguments("a variable of the shell was not set", 'start --host ""', "--host"),
    _arguments("a host does not exist", "start --host web9", "'web9'"),
    _arguments("a group does not exist", "start --group voice", "'voice'"),
    _arguments("a help page does not exist", "help strat", "'strat'"),
    _inventory("there is no inventory", "start", "inventory.yaml", files={"inventory.yaml": None}),
    _inventory("the inventory that is named does not exist", "start --inventory other.yaml", "other.yaml"),
    _inventory(
        "the YAML is broken",
        "start",
        "inventory.yaml",
        ":3",
        files={"inventory.yaml": "all:\n  vars:\n\tx: 1\n"},
    ),
    _inventory(
        "a key stands twice",
        "start",
        "inventory.yaml",
        "project",
        files={"inventory.yaml": "all:\n  vars:\n    project: a\n    project: b\n"},
    ),
    _inventory("a setting is misspelled", "start", "comand", "web", variables=_web(comand=["x"])),
    _inventory("a setting lacks its unit", "start", "ready_timeout", "web", variables=_web(ready_timeout=5)),
    _inventory(
        "a value has the wrong type", "start", "stop_timeout_s", "web", variables=_web(stop_timeout_s="soon")
    ),
    _inventory(
        "a kind does not exist", "start", "livekti", variables={"services": {"web": {"kind": "livekti"}}}
    ),
    _inventory(
        "a service needs one that does not exist", "start", "web", "'db'", variables=_web(needs=["db"])
    ),
    _inventory("services need each other", "start", "web", variables=_web(needs=["web"])),
    _inventory(
        "LiveKit's URL is of the web", "start", "livekit.url", variables={"livekit": {"url": "example.com"}}
    ),
    _inventory(
        "LiveKit's URL sends keys in the clear",
        "start",
        "ws://livekit.example.com",
        variables={"livekit": {"url": "ws://livekit.example.com"}},
    ),
    _files("there is no tasks.py", "start", "tasks.py", files={"tasks.py": None}),
    _files("tasks.py has a syntax error", "start", "tasks.py", files={"tasks.py": "def (:\n"}),
    _files("the entry of an agent is missing", "start agent", "agent.py", files={"agent.py": None}),
    _files("a line of .env is broken", "start", ".env", files={".env": "LIVEKIT_API_KEY APIshop\n"}),
    _files("a folder of voiceops is a file", "start web", ".voiceops", files={".voiceops": ""}),
    _files("a sound file is missing", "call --script hello.wav", "hello.wav"),
    _files("a picture has a format that can't be drawn", "call --plot calls.bmp", "calls.bmp"),
    _files("a report goes into a folder that does not exist", "call --report out/calls.html", "out"),
    _files("a program does not exist", "start web", "wbe-server", variables=_web(command=["wbe-server"])),
    Mistake(
        group="Ports",
        what="another program has the port",
        command="start web",
        names=("web", "PORT"),
        variables=_web(port="PORT"),
        taken_port=True,
    ),
    Mistake(
        group="Ports",
        what="a port is out of range",
        command="start web",
        names=("port", "web", "70000"),
        variables=_web(port=70000),
    ),
    Mistake(
        group="Ports",
        what="two services have one port",
        command="start",
        names=("8081",),
        variables={
            "services": {
                name: {"kind": "command", "command": ["sleep", "60"], "port": 8081} for name in ("web", "api")
            }
        },
    ),
    Mistake(
        group="Ports",
        what="nobody listens on LiveKit's port",
        command="rooms.list",
        names=("LiveKit", "ws://127.0.0.1:1"),
    ),
    _keys("a key is not set", "LIVEKIT_SECRET", secret={"env": "LIVEKIT_SECRET"}),
    _keys("a secret is empty", "api_secret", secret=""),
    _keys("the file of a secret is missing", "secret.txt", secret={"file": "secret.txt"}),
    _keys("the command of a secret fails", "api_secret", secret={"command": "false"}),
    _agent("a syntax error", "def f(:\n    pass\n", "agent", "agent.py"),
    _agent("an exception at import", "raise RuntimeError('no database')\n", "agent", "no database"),
    _agent("a module is not installed", "import pandsa\n", "agent", "pandsa"),
    _agent("no AgentServer in the file", "x = 1\n", "agent"),
)


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    main()
