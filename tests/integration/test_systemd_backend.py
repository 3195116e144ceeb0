"""The systemd backend against a real systemd, over ssh."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from tests.integration import onhost
from tests.integration.onhost import NAMES
from tests.support import hosts
from tests.support.units import command_unit
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.deadline import Deadline
from voiceops.errors import ServiceError
from voiceops.kinds.agent import AgentService, agent_unit
from voiceops.kinds.command import CommandService
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import Probe
from voiceops.model.states import ServiceState
from voiceops.stack.backend import StopForce
from voiceops.stack.logs.journald import journal_argv
from voiceops.stack.model import Instance, judge
from voiceops.stack.occupancy import CallRisk
from voiceops.stack.reconcile import plan_start
from voiceops.stack.stack import Stack
from voiceops.stack.steps import Starter
from voiceops.stack.systemd.backend import SystemdBackend

STAND_IN = Path(__file__).with_name("stand_in_agent.py")
SETTLE_S = 0.6


def limit(timeout_s: float = 30.0) -> Deadline:
    return Deadline(timeout_s, "the test")


@pytest.fixture(scope="module")
def ready_host(host: hosts.Machine) -> hosts.Machine:
    onhost.furnish(host)
    write = onhost.writer()
    probe = Probe(tcp="127.0.0.1:4321")
    server = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "4321"]
    onhost.install(
        host,
        [
            agent_unit(write, "agent", AgentService(entry="agent.py", drain_timeout_s=60), entry="agent.py"),
            command_unit(write, "web", CommandService(command=server, probe=probe, port=4321), cwd="/srv"),
            command_unit(
                write,
                "flaky",
                CommandService(command=["/bin/sh", "-c", "sleep 0.3; echo no luck; exit 3"]),
                cwd="/",
            ),
        ],
    )
    for service in ("web", "flaky"):
        onhost.environment(host, service, {"VOICEOPS_SERVICE": f"{NAMES.project}/{service}/d1"})
    for release in ("r1", "r2", "bad"):
        folder = NAMES.release(release)
        host.copy_in(STAND_IN, f"{folder}/agent.py", mode=0o644)
        # In place of a venv: takes the arguments of "-m voiceops.agentkit start ENTRY".
        run = f"exec /usr/bin/python3 {folder}/agent.py"
        if release == "bad":
            run = "sleep 0.3; echo the model file is missing >&2; exit 1"
        host.write(f"{folder}/venv/bin/python", f"#!/bin/sh\n{run}\n", mode=0o755)
        onhost.environment(host, "agent", {"VOICEOPS_SERVICE": f"{NAMES.project}/agent/d-{release}"}, release)
    return host


@pytest.fixture(scope="module")
def transport(ready_host: hosts.Machine) -> Iterator[SshTransport]:
    target = SshTarget(
        name=ready_host.name,
        address=ready_host.address,
        user="deploy",
        key_file=ready_host.key_path,
        known_hosts=(ready_host.known_hosts,),
    )
    with contextlib.closing(SshTransport(target)) as opened:
        yield opened


@pytest.fixture
def backend(ready_host: hosts.Machine, transport: SshTransport) -> Iterator[SystemdBackend]:
    yield SystemdBackend(NAMES, transport, settle_s=SETTLE_S)
    ready_host.shell(
        "rm -f /var/lib/frontdesk/data/*; systemctl stop 'frontdesk-*.service';"
        "systemctl reset-failed 'frontdesk-*';"
        "rm -f /etc/systemd/system/multi-user.target.wants/frontdesk-*",
        check=False,
    )


def agent(release: str) -> Declared:
    return Declared(
        name="agent",
        kind="agent",
        role=Role.AGENT,
        cwd=Path("/"),
        digest=f"d-{release}",
        release=release,
        ready_timeout_s=10,
    )


def command(name: str, *ports: int, probe: Probe | None = None) -> Declared:
    return Declared(
        name=name, kind="command", cwd=Path("/"), digest="d1", ports=ports, probe=probe, ready_timeout_s=10
    )


def up(backend: SystemdBackend, service: Declared) -> Instance:
    return backend.wait_ready(service, backend.start(service), limit())


def only(backend: SystemdBackend, service: Declared) -> Instance:
    (seen,) = backend.observe([service])[service.name].instances
    return seen


def test_nothing_runs_on_a_fresh_host(backend: SystemdBackend) -> None:
    seen = backend.observe([agent("r1"), command("web", 4321)])
    assert {judge(seen[name]).state for name in ("agent", "web")} == {ServiceState.MISSING}


def test_a_service_starts_is_seen_with_its_digest_and_stops(backend: SystemdBackend) -> None:
    web = command("web", 4321)
    started = up(backend, web)
    seen = only(backend, web)
    assert (seen.state, seen.digest, seen.pid) == (ServiceState.READY, "d1", started.pid)
    assert backend.end(seen, limit(), StopForce.STOP)
    assert not backend.observe([web])["web"].instances


def test_the_digest_is_of_what_runs_not_of_the_files(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    web = command("web", 4321)
    up(backend, web)
    onhost.environment(ready_host, "web", {"VOICEOPS_SERVICE": f"{NAMES.project}/web/d2"})
    try:
        assert only(backend, web).digest == "d1"
    finally:
        onhost.environment(ready_host, "web", {"VOICEOPS_SERVICE": f"{NAMES.project}/web/d1"})


def test_a_restart_loop_is_an_error_with_its_cause(backend: SystemdBackend) -> None:
    with pytest.raises(ServiceError, match="exit 3") as failed:
        up(backend, command("flaky"))
    assert "no luck" in failed.value.log_tail


def test_agents_overlap_and_the_old_one_drains_with_one_signal(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    old = up(backend, agent("r1"))
    ready_host.shell("touch /var/lib/frontdesk/data/calls-r1")
    new = up(backend, agent("r2"))
    assert not backend.end(old, limit(0.5), StopForce.DRAIN)
    assert not backend.end(old, limit(0.5), StopForce.DRAIN), "asked twice"

    seen = {one.release: one for one in backend.observe([agent("r2")])["agent"].instances}

    assert (seen["r2"].state, seen["r2"].pid, seen["r2"].digest) == (ServiceState.READY, new.pid, "d-r2")
    assert (seen["r1"].state, seen["r1"].calls, seen["r1"].signalled) == (ServiceState.DRAINING, 1, True)
    ready_host.shell("rm /var/lib/frontdesk/data/calls-r1")
    assert backend.end(old, limit(), StopForce.DRAIN)
    assert ready_host.read("/var/lib/frontdesk/data/signals-r1") == "1"
    assert only(backend, agent("r2")).pid == new.pid, "its runtime folder went with the old one's"


def test_an_old_agent_without_calls_is_not_waited_for_while_it_ends(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    old = up(backend, agent("r1"))
    ready_host.shell("touch /var/lib/frontdesk/data/lingers-r1")
    # Its health socket went before it could be asked whether it drains.
    assert not backend.end(old, limit(20), StopForce.BEGIN), "its end was waited for"
    assert backend.end(old, limit(20), StopForce.BEGIN)


def test_only_the_instance_that_proved_itself_starts_with_the_host(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    enabled = "ls /etc/systemd/system/multi-user.target.wants | grep frontdesk-agent"
    up(backend, agent("r1"))
    assert ready_host.shell(enabled).stdout.split() == ["frontdesk-agent@r1.service"]
    up(backend, agent("r2"))
    assert ready_host.shell(enabled).stdout.split() == ["frontdesk-agent@r2.service"]
    with pytest.raises(ServiceError):
        up(backend, agent("bad"))
    assert ready_host.shell(enabled).stdout.split() == ["frontdesk-agent@r2.service"]


def test_a_new_agent_that_dies_is_stopped_and_the_old_one_serves_on(backend: SystemdBackend) -> None:
    old = up(backend, agent("r1"))
    with pytest.raises(ServiceError, match="stopped again") as failed:
        up(backend, agent("bad"))
    assert "the model file is missing" in failed.value.log_tail
    (left,) = backend.observe([agent("r1")])["agent"].current
    assert (left.pid, left.state) == (old.pid, ServiceState.READY)


def test_the_last_words_of_an_agent_that_dies_are_found_although_the_journal_was_late(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    up(backend, agent("r1"))
    # It reads them after the death then, and can no longer find out which run wrote them.
    journald = "systemctl kill --kill-who=main --signal={} systemd-journald"
    ready_host.shell(f"{journald.format('STOP')}; (sleep 1.5; {journald.format('CONT')}) > /dev/null 2>&1 &")
    with pytest.raises(ServiceError, match="stopped again") as failed:
        up(backend, agent("bad"))
    assert "the model file is missing" in failed.value.log_tail


def test_a_journal_that_hangs_hides_no_more_than_the_last_words(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    up(backend, agent("r1"))
    ready_host.shell("systemctl kill --kill-who=main --signal=STOP systemd-journald")
    try:
        with pytest.raises(ServiceError, match=r"exit 1.*stopped again"):
            up(backend, agent("bad"))
    finally:
        ready_host.shell("systemctl kill --kill-who=main --signal=CONT systemd-journald")


def test_the_same_release_can_be_replaced_by_overlap(backend: SystemdBackend) -> None:
    old = up(backend, agent("r1"))
    new = up(backend, agent("r1"))
    assert new.pid != old.pid
    assert new.release == "r1"
    assert backend.end(old, limit(), StopForce.DRAIN)
    assert only(backend, agent("r1")).pid == new.pid


def test_an_agent_that_has_ended_before_its_successor_starts_does_not_take_it_along(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    """The one that drained was seen while it did not answer; the new run then has its unit."""
    data = "/var/lib/frontdesk/data"
    old = up(backend, agent("r1"))
    ready_host.shell(f"touch {data}/calls-r1")
    assert not backend.end(old, limit(0.5), StopForce.DRAIN)
    ready_host.shell(f"kill -STOP {old.pid}")
    services = [agent("r1")]
    observed = backend.observe(services)
    actions = plan_start(services, observed)
    assert [one.launch for one in actions[0].mute] == [old.launch]
    ready_host.shell(f"rm {data}/calls-r1; kill -CONT {old.pid}")
    assert backend.end(old, limit(), StopForce.DRAIN)

    stack = Stack(services=lambda: (), outline=(), backend=backend, lock=lambda _: contextlib.nullcontext())
    Starter(stack, services, observed, limit(), CallRisk(), drop_calls=False).run(actions)

    running = only(backend, services[0])
    assert (running.launch, running.state) == (old.launch, ServiceState.READY)


def test_an_agent_with_a_call_is_not_killed_by_a_stop_but_by_force(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    running = up(backend, agent("r1"))
    ready_host.shell("touch /var/lib/frontdesk/data/calls-r1")
    assert not backend.end(running, limit(1), StopForce.STOP)
    assert backend.end(running, limit(), StopForce.KILL)
    assert ready_host.read("/var/lib/frontdesk/data/signals-r1") == "1"


def test_a_killed_service_comes_back_by_itself(backend: SystemdBackend, ready_host: hosts.Machine) -> None:
    web = command("web", 4321)
    old = up(backend, web)
    ready_host.shell(f"kill -9 {old.pid}")
    patience = limit()
    while (seen := only(backend, web)).state is not ServiceState.READY or seen.pid == old.pid:
        patience.check(seen.detail)


def test_a_service_that_waits_for_its_restart_is_started_at_once(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    web = command("web", 4321)
    old = up(backend, web)
    ready_host.shell(
        f"kill -9 {old.pid}; until systemctl show -P SubState frontdesk-web | grep -q auto; do :; done"
    )
    assert up(backend, web).pid not in (0, old.pid)


def test_a_foreign_owner_of_the_port_is_a_stray_and_can_be_ended(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    web = command("web", 4321)
    ready_host.shell("systemd-run -q --unit=foreign python3 -m http.server --bind 127.0.0.1 4321")
    ready_host.shell("until grep -q ':10E1 00000000:0000 0A' /proc/net/tcp; do sleep 0.05; done")
    (stray,) = backend.observe([web])["web"].strays
    assert "http.server" in stray.command
    assert stray.foreign_owner == "foreign.service"
    backend.end_stray(replace(stray, start="1"), limit())
    assert backend.observe([web])["web"].strays == (replace(stray, age_s=ANY),)
    backend.end_stray(stray, limit())
    assert not backend.observe([web])["web"].strays
    up(backend, web)


def test_another_project_whose_name_begins_alike_is_none_of_ours(
    backend: SystemdBackend, ready_host: hosts.Machine
) -> None:
    ready_host.write(
        "/etc/systemd/system/frontdesk-two-web.service",
        "[Service]\nExecStart=/bin/sleep inf\nEnvironment=VOICEOPS_UNIT=frontdesk-two/web\n",
    )
    ready_host.shell("systemctl daemon-reload; systemctl start frontdesk-two-web")
    assert "two-web" not in backend.observe([])


def test_a_unit_that_was_never_deployed_is_named(backend: SystemdBackend) -> None:
    with pytest.raises(ServiceError, match="no such unit"):
        up(backend, command("absent"))


def test_the_log_of_all_instances_is_one_stream(backend: SystemdBackend, ready_host: hosts.Machine) -> None:
    with pytest.raises(ServiceError):
        up(backend, agent("bad"))
    argv = journal_argv(NAMES, [agent("r1"), command("web")], lines=50)
    quoted = " ".join(f"'{argument}'" for argument in argv)
    lines = [json.loads(line) for line in ready_host.shell(quoted).stdout.splitlines()]
    assert "the model file is missing" in [line["MESSAGE"] for line in lines]
