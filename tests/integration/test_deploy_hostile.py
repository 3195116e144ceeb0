"""Values that shells, systemd, YAML and ssh would take for something else: unchanged on the host, or refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support import hosts, parts
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

UNIT = f"{PROJECT}-web.service"
HOSTILE = {
    "QUOTES": 'it\'s "quoted"',
    "SHELL": "$(touch /tmp/pwned) `id` ${HOME} $$",
    "PERCENT": "100% %i %n %%",
    "LINES": "two\nlines",
    "UNICODE": "ünïcode 日本 \U0001f600",
    "BACKSLASH": "a\\b\\",
    "HASH": "a #b; c",
}
FOLDER = "/srv/a b/%i $(id) 'q' \U0001f600"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    return cheap_servers(tmp_path_factory.mktemp("hostile") / "project", [host])


def test_arguments_variables_secrets_and_folders_arrive_unchanged(
    servers: Servers, host: hosts.Machine
) -> None:
    arguments = [*HOSTILE.values(), "-x", ""]
    script = "import sys,time; print('up', flush=True); time.sleep(1000)"
    command = ["/usr/bin/python3", "-c", script, *arguments]
    secrets = {f"{name}_SECRET": {"env": f"{name}_SECRET"} for name in HOSTILE}
    servers.variables["services"]["web"] = sleeper(command=command, env=HOSTILE | secrets, cwd=FOLDER)
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in HOSTILE.items()}
    (servers.folder / ".env").write_text(
        "".join(f"{name}_SECRET={value}\n".replace("$", "\\$") for name, value in quoted.items())
    )
    servers.write()
    host.shell(f"mkdir -p {shlex.quote(FOLDER)}")
    servers.deploy()
    main = host.shell(f"systemctl show -P MainPID {UNIT}").stdout.strip()
    told = host.shell(f"cat /proc/{main}/cmdline").stdout.split("\0")
    parts_of = host.shell(f"cat /proc/{main}/environ").stdout.split("\0")
    environment = dict(part.partition("=")[::2] for part in parts_of)
    assert told[3:-1] == arguments
    assert {name: environment[name] for name in HOSTILE} == HOSTILE
    assert {name: environment[f"{name}_SECRET"] for name in HOSTILE} == HOSTILE
    assert host.shell(f"readlink /proc/{main}/cwd").stdout == f"{FOLDER}\n"
    assert host.shell("test -e /tmp/pwned", check=False).returncode == 1
    assert servers.deploy()["changed_count"] == 0


def test_keys_and_configuration_of_livekit_arrive_unchanged(servers: Servers, host: hosts.Machine) -> None:
    key, secret = "key 'q\" $(id) %i # ü\U0001f600", "secret: {a} \"b\" 'c' $(id) %n # \U0001f600" + "x" * 20
    extra = {
        "room": {"sync_streams": False},
        "webhook": {"api_key": key, "urls": ["http://127.0.0.1:9/ü?a='%n"]},
    }
    livekit = {"kind": "livekit", "binary": str(parts.livekit_server_binary()), "config": extra}
    servers.variables["services"] = {"livekit": livekit}
    servers.env |= {"LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret}
    servers.write()
    servers.deploy()
    written = yaml.safe_load(host.read(f"/etc/{PROJECT}/livekit.yaml"))
    assert written["keys"] == {key: secret}
    assert (written["webhook"], written["room"]) == (extra["webhook"], extra["room"])
    # The server took them: it is ready with that file, and the controller's calls are signed with the same.
    assert servers.inv("check-running", "--group", "servers", "--json").json["ok"] is True
    assert servers.deploy()["changed_count"] == 0


REFUSED: dict[str, Callable[[Servers], None]] = {
    "project with a blank": lambda one: one.variables.update(project="front desk"),
    "project that climbs": lambda one: one.variables.update(project="../etc"),
    "no project": lambda one: one.variables.update(project=""),
    "project too long": lambda one: one.variables.update(project="a" * 30),
    "service with a specifier": lambda one: one.variables.update(services={"web%i": sleeper()}),
    "service with a line break": lambda one: one.variables.update(services={"a\nb": sleeper()}),
    "service with a suffix": lambda one: one.variables.update(services={"web@1.service": sleeper()}),
    "user that is a flag": lambda one: one.variables.update(ansible_user="-oProxyCommand=touch /tmp/x"),
    "user for a shell": lambda one: one.variables.update(ansible_user="$(id)"),
    "host for a shell": lambda one: one.host_variables.update(
        {one.machines[0].name: {"ansible_host": "10.0.0.1;id"}}
    ),
    "port for a shell": lambda one: one.variables.update(ansible_port="22;id"),
    "relative program": lambda one: one.variables.update(services={"web": sleeper(command=["sleep", "9"])}),
    "program with a dollar": lambda one: one.variables.update(services={"web": sleeper(command=["/bin/$x"])}),
    "folder with a line break": lambda one: one.variables.update(
        services={"web": sleeper(cwd="/a\nUser=root")}
    ),
    "relative folder": lambda one: one.variables.update(services={"web": sleeper(cwd="../x")}),
    "control character in a variable": lambda one: one.variables.update(
        services={"web": sleeper(env={"A": "\x01"})}
    ),
    "variable of no name": lambda one: one.variables.update(services={"web": sleeper(env={"A B": "x"})}),
    "variable of ours": lambda one: one.variables.update(
        services={"web": sleeper(env={"VOICEOPS_SERVICE": "x"})}
    ),
    "signal for a shell": lambda one: one.variables.update(services={"web": sleeper(stop_signal="TERM;id")}),
    "requirements that are not there": lambda one: one.variables.update(
        services={"agent": {"kind": "agent", "entry": "tasks.py"}}, deploy={"requirements": "$(id) no.txt"}
    ),
    "requirements with a NUL": lambda one: one.variables.update(
        services={"agent": {"kind": "agent", "entry": "tasks.py"}}, deploy={"requirements": "a\0b"}
    ),
    "schedule that is no switch": lambda one: one.variables.update(deploy={"schedule": "$(id)"}),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_cannot_arrive_is_refused_with_file_and_line_before_anything_changed(
    tmp_path: Path, host: hosts.Machine, what: str
) -> None:
    made = cheap_servers(tmp_path / "project", [host])
    made.variables["project"] = "refused"
    REFUSED[what](made)
    made.write()
    refused = made.inv("deploy", "--group", "servers", "--json", code=3)
    error = json.loads(refused.out)
    found = error.get("error") or error["hosts"][host.name]["error"]
    assert found["file"] == "inventory.yaml"
    assert isinstance(found["line"], int)
    assert (
        host.shell("ls -d /etc/refused /opt/refused /etc/systemd/system/*refused*", check=False).stdout == ""
    )
