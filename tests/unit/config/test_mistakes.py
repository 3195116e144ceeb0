"""Each mistake in an inventory ends `inv start` with exit 3, names file, line and path, and hints at the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from invoke.program import Program

from voiceops.tasks import namespace

GOOD = """\
all:
  vars:
    project: frontdesk
    livekit:
      url: ws://127.0.0.1:7880
      api_key: {env: LIVEKIT_API_KEY}
      api_secret: {env: LIVEKIT_API_SECRET}
    services:
      livekit:
        kind: livekit
        version: 1.13.5
        rtc_tcp_port: 7881
      agent:
        kind: agent
        entry: bots/agent.py
        needs: [livekit]
        drain_timeout_s: 3600
        env: {MODE: fast}
      cache:
        kind: command
        command: [redis-server]
        port: 6379
        probe: {tcp: "127.0.0.1:6379"}
    rooms:
      stale_after_s: 300
    run: [livekit, agent]
  children:
    local: {hosts: {localhost: {ansible_connection: local}}}
    voice:
      hosts:
        voice[1:3].example.com:
      vars: {ansible_user: deploy}
"""


class Mistake(NamedTuple):
    """An edit of the good inventory, and what the error must say."""

    old: str
    new: str
    line_with: str
    """The error's line is the first one that contains this; empty: the error has no line."""
    path: str | None
    hint: str | None


MISTAKES = {
    "unknown setting of a service": Mistake(
        "drain_timeout_s", "drain_timout_s", "drain_timout_s", "services.agent.drain_timout_s", "drain_timeout_s"
    ),
    "forgotten unit": Mistake("stale_after_s", "stale_after", "stale_after", "rooms.stale_after", "stale_after_s"),
    "minutes beyond the hour": Mistake(
        "    run: [",
        "    deploy: {cleanup_every_min: 60}\n    run: [",
        "cleanup_every_min",
        "deploy.cleanup_every_min",
        None,
    ),
    "unknown setting of livekit": Mistake("url:", "uri:", "uri:", "livekit.uri", "'url'"),
    "mistyped top-level variable": Mistake("    rooms:", "    room:", "    room:", "room", "'rooms'"),
    "mistyped services": Mistake("    services:", "    servces:", "servces:", "servces", "'services'"),
    "number as text": Mistake("_s: 3600", "_s: '1h'", "'1h'", "services.agent.drain_timeout_s", "plain number"),
    "text as number": Mistake("version: 1.13.5", "version: 1.13", "1.13", "services.livekit.version", 'quote it: "1.13"'),
    "bool as number": Mistake("_s: 300\n", "_s: yes\n", "_s: yes", "rooms.stale_after_s", None),
    "load limit in percent": Mistake(
        "_s: 3600", "_s: 3600\n        load_limit: 70", "load_limit", "services.agent.load_limit", "0.7 for 70 %"
    ),
    "load limit switched on": Mistake(
        "_s: 3600", "_s: 3600\n        load_limit: on", "load_limit", "services.agent.load_limit", "0.7 for 70 %"
    ),
    "text as list": Mistake("[livekit]\n", "livekit\n", "needs: livekit", "services.agent.needs", "[livekit]"),
    "list as text": Mistake("bots/agent.py", "[a.py]", "[a.py]", "services.agent.entry", None),
    "service as text": Mistake(
        "      cache:\n", "      other: redis\n      cache:\n", "other: redis", "services.other", None
    ),
    "service without kind": Mistake("        kind: livekit\n", "", "      livekit:", "services.livekit", "kind: livekit"),
    "unknown kind": Mistake("kind: agent", "kind: agnet", "kind: agnet", "services.agent.kind", "'agent'"),
    "missing entry": Mistake("        entry: bots/agent.py\n", "", "      agent:", "services.agent", None),
    "entry that does not exist": Mistake(
        "bots/agent.py", "bots/agnet.py", "agnet.py", "services.agent.entry", "bots/agent.py"
    ),
    "need of an unknown service": Mistake(
        "needs: [livekit]", "needs: [livekt]", "[livekt]", "services.agent.needs[0]", "'livekit'"
    ),
    "need of itself": Mistake("needs: [livekit]", "needs: [agent]", "[agent]", "services.agent.needs", None),
    "needs in a circle": Mistake(
        "        rtc_tcp_port: 7881", "        needs: [agent]", "needs: [livekit]", "services.agent.needs", None
    ),
    "run of an unknown service": Mistake("[livekit, agent]", "[livekit, agents]", "agents]", "run[1]", "'agent'"),
    "package with a version": Mistake(
        "    run:", "    deploy: {packages: [ffmpeg=7:5]}\n    run:", "ffmpeg=7:5", "deploy.packages[0]", "versions"
    ),
    "package to be removed": Mistake("    run:", "    deploy: {packages: [a-]}\n    run:", "[a-]", "deploy.packages[0]", None),
    "run twice": Mistake("[livekit, agent]", "[agent, agent]", "[agent, agent]", "run[1]", None),
    "port out of range": Mistake("7881", "78810", "78810", "services.livekit.rtc_tcp_port", None),
    "two services on one port": Mistake("7881", "7880", "rtc_tcp_port", "services.livekit.rtc_tcp_port", None),
    "negative timeout": Mistake("_s: 3600", "_s: -1", "_s: -1", "services.agent.drain_timeout_s", None),
    "infinite timeout": Mistake("_s: 3600", "_s: .inf", ".inf", "services.agent.drain_timeout_s", None),
    "wrong url scheme": Mistake("ws://127", "tcp://127", "tcp://", "livekit.url", "ws://HOST:PORT"),
    "url without host": Mistake("ws://127.0.0.1:7880", "ws://", "ws://", "livekit.url", "ws://HOST:PORT"),
    "probe of two kinds": Mistake('6379"}', '6379", notify: true}', "notify", "services.cache.probe", None),
    "probe of no kind": Mistake('{tcp: "127.0.0.1:6379"}', "{interval_s: 1}", "interval_s", "services.cache.probe", None),
    "probe without port": Mistake('"127.0.0.1:6379"', "redis", "tcp: redis", "services.cache.probe.tcp", "127.0.0.1"),
    "empty command": Mistake("[redis-server]", "[]", "command: []", "services.cache.command", "program"),
    "peer that is a name": Mistake(
        "[redis-server]", "[redis-server]\n        peers: [lk1.example.com]", "lk1.", "services.cache.peers[0]", "10.0.0.0/8"
    ),
    "command as text": Mistake("[redis-server]", "redis-server", "redis-server", "services.cache.command", "[redis"),
    "unquoted number in env": Mistake("MODE: fast", "PORT: 80", "PORT: 80", "services.agent.env.PORT", 'quote it: "80"'),
    "bad name of a variable": Mistake("MODE: fast", "A-B: fast", "A-B", "services.agent.env.A-B", None),
    "project with blanks": Mistake("frontdesk", "Front Desk", "Front Desk", "project", "small letters"),
    "no project": Mistake("    project: frontdesk\n", "", "", "project", "project: NAME"),
    "secret of an unknown kind": Mistake("{env: LIVEKIT_API_KEY}", "{evn: X}", "evn", "livekit.api_key", "env: NAME"),
    "secret of two kinds": Mistake(
        "{env: LIVEKIT_API_KEY}", "{env: X, file: y}", "file: y", "livekit.api_key", "env: NAME"
    ),
    "secret by a pipe": Mistake(
        "{env: LIVEKIT_API_KEY}", '{command: "pass x | head -1"}', "pass x", "livekit.api_key", "sh"
    ),
    "template in a setting": Mistake("ws://127.0.0.1", "ws://{{ ip }}", "{{ ip }}", "livekit.url", "value itself"),
    "key written twice": Mistake("    run:", "    project: again\n    run:", "project: again", None, "keep one"),
    "tab as indentation": Mistake("    run:", "\trun:", "\trun:", None, "tabs"),
    "colon in a plain value": Mistake("MODE: fast", "MODE: a: b", "a: b", None, None),
    "unclosed bracket": Mistake("[livekit]\n", "[livekit\n", "drain_timeout_s", None, None),
    "unknown section of a group": Mistake("      hosts:\n", "      host:\n", "host:\n", "all.children.voice.host", "'hosts'"),
    "hosts as a list": Mistake("voice[1:3].example.com:", "- voice1", "hosts:\n", None, "without a dash"),
    "broken range": Mistake("voice[1:3]", "voice[3:1]", "voice[3:1]", None, "web[1:3]"),
    "group inside itself": Mistake(
        "      vars: {ansible_user", "      children: {voice: }\n      vars: {ansible_user", "{voice: }", None, None
    ),
    "value encrypted by vault": Mistake("{MODE: fast}", "{MODE: !vault x}", "!vault", None, "ansible-vault decrypt"),
    "unknown connection": Mistake("connection: local", "connection: docker", "docker", "ansible_connection", "ssh"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_exit_3_with_its_place_and_a_hint(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = MISTAKES[name]
    text = GOOD.replace(mistake.old, mistake.new, 1)
    assert text != GOOD
    inventory = project(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    arguments = ["inv", "start", "--json", "--inventory", str(inventory)]
    if mistake.path == "ansible_connection":
        arguments += ["--host", "localhost"]

    with pytest.raises(SystemExit) as ended:
        Program(namespace=namespace, version="0").run(arguments)

    assert ended.value.code == 3
    error = json.loads(capsys.readouterr().out)["error"]
    lines = text.splitlines(keepends=True)
    expected = next((n for n, line in enumerate(lines, 1) if mistake.line_with in line), None)
    assert error["file"] == "inventory.yaml"
    assert error["line"] == (expected if mistake.line_with else None), error
    assert error["path"] == mistake.path, error
    if mistake.hint is not None:
        assert mistake.hint in error["hint"], error
    assert not (tmp_path / ".voiceops").exists()
    assert not (tmp_path / ".env").exists()


def test_the_inventory_without_mistakes_loads(tmp_path: Path) -> None:
    from voiceops.wiring.project import Project

    assert Project.load(inventory=str(project(tmp_path, GOOD))).hosts[0].settings.run == ["livekit", "agent"]


def project(folder: Path, text: str) -> Path:
    """A project whose agent exists."""
    (folder / "bots").mkdir()
    (folder / "bots" / "agent.py").touch()
    inventory = folder / "inventory.yaml"
    inventory.write_text(text)
    return inventory
