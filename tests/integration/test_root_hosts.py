"""A service's account on a real host, taken over: it gets nowhere near root, and nowhere out of its sandbox."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration import onhost
from tests.integration.onhost import NAMES
from tests.integration.test_ssh import wait_until
from tests.support import hosts
from tests.support.hosts_ssh import target
from tests.support.units import command_unit
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.deadline import Deadline
from voiceops.deploy.desired import host_call
from voiceops.kinds.agent import AgentService, agent_unit
from voiceops.kinds.command import CommandService
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import Probe, Settings
from voiceops.model.states import ServiceState
from voiceops.resources import Directory, File, State, apply
from voiceops.stack.backend import StopForce
from voiceops.stack.systemd.backend import SystemdBackend
from voiceops.systemd.units import TimerJob

PORT = 4321
TRAP = "import os; open('/var/lib/frontdesk/data/ran-as-%d' % os.getuid(), 'a').close()"
HOSTILE = '''#!/usr/bin/python3
"""In place of an agent: ready by its word, and then as told by the file ``mood``."""
import os, socket, sys, time
path = os.environ["VOICEOPS_HEALTH_SOCKET"]
mood = open("/var/lib/frontdesk/data/mood").read().strip()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
    out.sendto(b"READY=1\\nWATCHDOG=1", os.environ["NOTIFY_SOCKET"])
if mood == "link":
    os.symlink("/run/private/socket", path)
    time.sleep(1000)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    client = server.accept()[0]
    try:
        if mood == "junk":
            client.recv(4096)
            client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n{"registered": true, "draining": [], "calls": "x"}')
        while mood == "drip":
            client.sendall(b" ")
            time.sleep(0.1)
        for _ in range(100 if mood == "flood" else 0):
            client.sendall(bytes(1 << 20))
    except OSError:
        pass
    client.close()
'''
PRIVATE = """
import os, socket
os.makedirs("/run/private", 0o700, exist_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind("/run/private/socket")
server.listen()
while True:
    server.accept()[0].close()
    open("/run/private/was-asked", "a").close()
"""


@pytest.fixture(scope="module")
def ready_host(host: hosts.Machine) -> hosts.Machine:
    onhost.furnish(host)
    web = CommandService(
        command=["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", str(PORT)],
        probe=Probe(http=f"http://127.0.0.1:{PORT}/"),
        port=PORT,
        ready_timeout_s=5,
    )
    agent = AgentService(entry="agent.py", drain_timeout_s=1)
    units = [
        command_unit(onhost.writer(), "web", web, cwd="/srv"),
        agent_unit(onhost.writer(), "agent", agent, entry="agent.py"),
    ]
    onhost.install(host, units)
    data = NAMES.data
    host.write(f"{NAMES.release('r1')}/venv/bin/python", HOSTILE, mode=0o755)
    onhost.environment(host, "agent", {"VOICEOPS_SERVICE": f"{NAMES.project}/agent/d1"}, "r1")
    # A variable of the environment file reaches all that the unit runs.
    trapped = dict.fromkeys(("PYTHONPATH", "PYTHONUSERBASE"), data) | {"PYTHONSTARTUP": f"{data}/json.py"}
    onhost.environment(host, "web", trapped | {"VOICEOPS_SERVICE": f"{NAMES.project}/web/d1"})
    host.shell(f"mkdir -p {data} && chown -R {NAMES.user}: {data} && ls {data}")
    return host


@pytest.fixture
def transport(ready_host: hosts.Machine) -> Iterator[SshTransport]:
    with closing(SshTransport(target(ready_host))) as made:
        yield made


@pytest.fixture
def backend(transport: SshTransport, ready_host: hosts.Machine) -> Iterator[SystemdBackend]:
    yield SystemdBackend(NAMES, transport, settle_s=0.5)
    ready_host.shell(
        "systemctl kill --signal=KILL 'frontdesk-*.service'; systemctl stop 'frontdesk-*.service'",
        check=False,
    )


def test_what_a_service_leaves_in_its_home_and_environment_never_runs_as_root(
    ready_host: hosts.Machine, backend: SystemdBackend
) -> None:
    for folder in (
        f"{NAMES.data}/.local/lib/python3.11/site-packages",
        f"{NAMES.data}/lib/python3.11/site-packages",
    ):
        ready_host.write(f"{folder}/trap.pth", TRAP + "\n")
    for name in ("usercustomize", "sitecustomize", "json", "socket", "argparse", "encodings"):
        ready_host.write(f"{NAMES.data}/{name}.py", TRAP + f"\nraise ImportError({name!r})\n")
    ready_host.shell(
        f"rm {NAMES.data}/encodings.py {NAMES.data}/socket.py {NAMES.data}/json.py {NAMES.data}/argparse.py"
    )
    ready_host.shell(f"chown -R {NAMES.user}: {NAMES.data}")
    web = Declared(name="web", kind="command", cwd=Path("/"), digest="d1", ports=(PORT,), ready_timeout_s=10)
    running = backend.wait_ready(web, backend.start(web), Deadline(30, "the test"))
    assert backend.observe([web])["web"].current[0].pid == running.pid
    uid = ready_host.shell(f"id -u {NAMES.user}").stdout.strip()
    ran = ready_host.shell(f"cd {NAMES.data}; ls -d ran-as-*").stdout.split()
    assert ran == [f"ran-as-{uid}"], "the trap works, for the service alone"


def test_a_port_that_another_unit_of_the_same_user_owns_is_not_ours(
    ready_host: hosts.Machine, backend: SystemdBackend
) -> None:
    ready_host.shell(
        f"systemd-run -q --unit=other --uid={NAMES.user} python3 -Im http.server --bind 127.0.0.1 {PORT} -d /srv"
    )
    wait_until(lambda: f":{PORT} " in ready_host.shell("ss -Hltn").stdout)
    try:
        # A program that stays up without its port, as a server does that retries.
        ready_host.shell("mkdir -p /run/systemd/system/frontdesk-web.service.d")
        ready_host.write(
            "/run/systemd/system/frontdesk-web.service.d/x.conf",
            "[Service]\nExecStart=\nExecStart=/bin/sleep 100\n",
        )
        ready_host.shell("systemctl daemon-reload")
        assert ready_host.shell("systemctl start frontdesk-web", check=False).returncode != 0
        log = ready_host.journal("-u", "frontdesk-web", "-o", "cat")
        assert f"port {PORT} belongs to another process" in log, log[-2000:]
    finally:
        ready_host.shell(
            "systemctl stop other; rm -r /run/systemd/system/frontdesk-web.service.d; systemctl daemon-reload"
        )


@pytest.mark.parametrize("mood", ["drip", "flood", "junk", "link"])
def test_a_hostile_health_socket_is_bounded_and_counts_as_no_answer(
    ready_host: hosts.Machine, backend: SystemdBackend, mood: str
) -> None:
    ready_host.write(f"{NAMES.data}/mood", mood)
    private = "private.service"
    ready_host.write("/opt/private.py", PRIVATE)
    ready_host.shell(f"systemd-run -q --unit={private} python3 -I /opt/private.py")
    wait_until(lambda: ready_host.shell("test -S /run/private/socket", check=False).returncode == 0)
    try:
        ready_host.shell("systemctl start frontdesk-agent@r1")
        agent = Declared(
            name="agent",
            kind="agent",
            role=Role.AGENT,
            cwd=Path("/"),
            digest="d1",
            release="r1",
            ready_timeout_s=10,
        )
        began = time.monotonic()
        (seen,) = backend.observe([agent])["agent"].instances
        assert time.monotonic() - began < 10
        # What does not answer may have calls: None, not 0.
        assert (seen.state, seen.calls, seen.rooms) == (ServiceState.UNRESPONSIVE, None, ())
        assert ready_host.shell("test -e /run/private/was-asked", check=False).returncode == 1
        assert backend.end(seen, Deadline(20, "the test"), StopForce.KILL)
    finally:
        ready_host.shell(f"systemctl stop {private}; rm -rf /run/private", check=False)


def test_root_does_not_follow_a_link_that_a_service_put_into_its_folder(
    ready_host: hosts.Machine, transport: SshTransport
) -> None:
    before = ready_host.shell("stat -c '%U %G %a' /etc").stdout
    ready_host.shell(f"ln -sfn /etc {NAMES.data}/schedule; chown -h {NAMES.user}: {NAMES.data}/schedule")
    inside = f"{NAMES.data}/schedule"
    resources = {
        "directory": Directory(path=inside, owner=NAMES.user, group=NAMES.user, mode=0o777),
        "file": File(path=f"{inside}/trapped", content="x"),
        "below": Directory(path=f"{inside}/trapped/folder", owner=NAMES.user),
    }
    for resource in resources.values():
        report = apply(transport, State("rooted", [resource]))
        assert "root does not follow the link schedule" in report.results[0].error
    assert ready_host.shell("stat -c '%U %G %a' /etc").stdout == before
    assert ready_host.shell("test -e /etc/trapped", check=False).returncode == 1


def test_a_call_from_the_host_runs_in_the_sandbox_of_the_services(
    ready_host: hosts.Machine, transport: SshTransport
) -> None:
    onhost.environment(ready_host, "cleanup-rooms", {"LIVEKIT_API_KEY": "k"})
    ready_host.shell(
        f"mkdir -p {NAMES.etc}/schedule {NAMES.opt}/current && ln -sfn ../releases/call {NAMES.opt}/current/agent"
    )
    ready_host.write(
        f"{NAMES.release('call')}/venv/bin/python",
        "#!/bin/sh\ntouch /var/lib/frontdesk/schedule/kept && id -un\n"
        "touch /opt/escaped /etc/escaped 2>/dev/null; ls /home/deploy /root 2>/dev/null; sleep 8\n",
        mode=0o755,
    )
    settings = Settings(project=NAMES.project)
    argv = host_call(settings, "agent", unit="frontdesk-call-x", limit_s=60, templates=[onhost.TEMPLATES])
    process = transport.start(argv, root=True)
    with closing(process):
        wait_until(
            lambda: ready_host.shell("systemctl is-active frontdesk-call-x", check=False).stdout == "active\n"
        )
        said = ready_host.shell("systemd-analyze security --no-pager frontdesk-call-x | tail -n 1").stdout
        printed = b""
        while data := process.read(20):
            printed += data
        assert (process.wait().exit_code, printed.decode()) == (0, f"{NAMES.user}\n")
    assert float(re.findall(r"\d+\.\d+", said)[0]) <= 2.0, said
    assert ready_host.shell("ls -d /opt/escaped /etc/escaped", check=False).stdout == ""
    assert ready_host.shell(f"stat -c %U {NAMES.schedule}/kept").stdout == f"{NAMES.user}\n"


CONNECT = (
    "import json, socket\nfor at in {at}:\n s = socket.socket()\n s.settimeout(2)\n print(s.connect_ex(at))\n"
)


def test_a_job_with_peers_reaches_them_and_nobody_else(ready_host: hosts.Machine) -> None:
    gateway = ready_host.address.rpartition(".")[0] + ".1"
    script = CONNECT.format(at=[("127.0.0.1", 22), (gateway, 9)])
    codes = {}
    for name, peers in (("open", None), ("closed", ["localhost"]), ("listed", ["localhost", gateway])):
        job = TimerJob(name=name, argv=["/usr/bin/python3", "-c", script], calendar="yearly", peers=peers)
        service, _timer = onhost.writer().job(job)
        onhost.install(ready_host, [service])
        onhost.environment(ready_host, name, {})
        ready_host.shell(f"systemctl start {service.name}")
        log = ready_host.journal("-u", service.name, "-o", "json")
        lines = [json.loads(line).get("MESSAGE") for line in log.splitlines()]
        codes[name] = [int(line) for line in lines if str(line).isdigit()]
    refused = 111
    assert codes["open"] == [0, refused]
    assert codes["listed"] == [0, refused]
    assert codes["closed"][0] == 0
    assert codes["closed"][1] not in (0, refused), "its packets reached the gateway"
