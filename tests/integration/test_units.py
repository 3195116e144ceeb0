"""The rendered units on a real host: clean, tight, and honest about readiness."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import onhost
from tests.integration.onhost import NAMES
from tests.support import hosts, parts
from tests.support.units import command_unit
from voiceops.kinds.agent import AgentService, agent_unit
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService, livekit_unit
from voiceops.kinds.monitor import MonitorService
from voiceops.kinds.monitor_host import monitor_units
from voiceops.model.settings import Probe
from voiceops.systemd.units import TimerJob, UnitFile

BINARY = f"{NAMES.opt}/bin/livekit-server"
CONFIG = f"{NAMES.etc}/livekit.yaml"


@pytest.fixture(scope="module")
def ready_host(host: hosts.Machine) -> hosts.Machine:
    onhost.furnish(host)
    host.copy_in(parts.livekit_server_binary(), BINARY, mode=0o755)
    host.write(CONFIG, onhost.livekit_config(7880), mode=0o600)
    onhost.environment(host, "livekit", {})
    return host


def _livekit(**settings: float) -> UnitFile:
    service = LivekitService(**settings)  # type: ignore[arg-type]
    return livekit_unit(onhost.writer(), "livekit", service, binary=BINARY, port=7880, config_file=CONFIG)


def _all_units() -> list[UnitFile]:
    write = onhost.writer()
    command = CommandService(
        command=["/usr/bin/sleep", "inf"], probe=Probe(tcp="127.0.0.1:1"), memory_max_bytes=1 << 30
    )
    return [
        _livekit(),
        agent_unit(write, "agent", AgentService(entry="agent.py"), entry="agent.py", needs=["livekit"]),
        command_unit(write, "cache", command, cwd="/opt"),
        command_unit(
            write, "notifier", CommandService(command=["/usr/bin/true"], probe=Probe(notify=True)), cwd="/opt"
        ),
        *monitor_units(write, "monitor", MonitorService(), python="/usr/bin/python3", folder=NAMES.etc),
        *write.job(TimerJob(name="cleanup", argv=["/usr/bin/true", "--quiet"], calendar="*:0/5")),
    ]


def test_systemd_analyze_verifies_every_unit_without_a_word(ready_host: hosts.Machine) -> None:
    onhost.install(ready_host, _all_units())
    ready_host.shell(
        f"mkdir -p {NAMES.opt}/releases/r1/venv/bin && cp /bin/true {NAMES.opt}/releases/r1/venv/bin/python"
    )
    names = [unit.name.replace("@.", "@r1.") for unit in _all_units()]
    said = ready_host.shell("systemd-analyze verify " + " ".join(names))
    assert (said.stdout, said.stderr) == ("", "")


def test_the_exposure_of_every_service_is_at_most_2(ready_host: hosts.Machine) -> None:
    onhost.install(ready_host, _all_units())
    scores = {}
    for unit in _all_units():
        if unit.name.endswith(".service"):
            name = unit.name.replace("@.", "@r1.")
            listed = ready_host.shell(f"systemd-analyze security --no-pager --json=short {name}", check=False)
            assert json.loads(listed.stdout)
            overall = ready_host.shell(f"systemd-analyze security --no-pager {name} | tail -n 1").stdout
            scores[name] = float(re.findall(r"\d+\.\d+", overall)[0])
    print("\n".join(f"{score:4.1f}  {name}" for name, score in scores.items()))
    shipped = {template.name for template in (onhost.TEMPLATES / "systemd").glob("*.service")}
    assert shipped == {
        re.findall(r"from templates/systemd/(\S+);", unit.text)[0] for unit in _all_units()
    } - {"job.timer", "monitor-restart.socket"}
    assert max(scores.values()) <= 2.0, scores


@pytest.fixture
def livekit(ready_host: hosts.Machine) -> Iterator[hosts.Machine]:
    onhost.install(ready_host, [_livekit()])
    yield ready_host
    ready_host.shell(f"systemctl stop {NAMES.unit('livekit')}; systemctl reset-failed", check=False)


def test_livekit_is_started_when_it_answers_and_stops_at_once(livekit: hosts.Machine) -> None:
    unit = NAMES.unit("livekit")
    livekit.shell(f"systemctl start {unit}")
    assert "200" in livekit.shell(_get("http://127.0.0.1:7880/")).stdout
    livekit.shell(f"systemctl restart {unit}")
    livekit.shell(f"systemctl stop {unit}")
    shown = livekit.shell(f"systemctl show -P Result -P ExecMainStatus {unit}").stdout.split()
    assert shown == ["0", "success"] or shown == ["success", "0"], "the signal after the start was swallowed"


def test_livekit_fails_to_start_when_a_foreign_server_answers_on_its_port(livekit: hosts.Machine) -> None:
    livekit.shell(
        "systemd-run --unit=foreign python3 -c '"
        'import http.server as h; h.HTTPServer(("127.0.0.1", 7880), h.SimpleHTTPRequestHandler).serve_forever()\''
    )
    try:
        listens = "until (exec 3<>/dev/tcp/127.0.0.1/7880) 2>/dev/null; do sleep 0.1; done"
        livekit.shell(f"bash -c '{listens}'", timeout_s=60)
        started = livekit.shell(f"systemctl start {NAMES.unit('livekit')}", check=False, timeout_s=100)
        assert started.returncode != 0
    finally:
        livekit.shell("systemctl stop foreign")


def test_livekit_fails_to_start_on_a_configuration_that_it_exits_0_on(livekit: hosts.Machine) -> None:
    livekit.write(CONFIG, onhost.livekit_config(7880, nonsense=1), mode=0o600)
    try:
        assert livekit.shell(f"systemctl start {NAMES.unit('livekit')}", check=False).returncode != 0
    finally:
        livekit.write(CONFIG, onhost.livekit_config(7880), mode=0o600)


def test_the_keys_reach_livekit_and_nobody_else(livekit: hosts.Machine) -> None:
    unit = NAMES.unit("livekit")
    livekit.shell(f"systemctl start {unit}")
    secret = onhost.SECRET
    assert secret not in livekit.shell(f"systemctl cat {unit}; systemctl show {unit}; ps axeww").stdout
    assert livekit.shell(f"cat {CONFIG}", user="deploy", check=False).returncode != 0
    assert (
        "Permission denied"
        in livekit.shell(f"cat /run/credentials/{unit}/livekit.yaml", user="deploy", check=False).stderr
    )


HOSTILE = [
    "plain",
    "100% %i %% %n",
    "$HOME ${HOME} $$ $(id) `id`",
    'it\'s "quoted" \\ back\\n',
    "two\nlines\ttab",
    "-leading",
    ";",
    "#no comment",
    " blanks  around ",
    "",
    "ünïcode 日本 \U0001f600",
    "ends with \\",
]


def test_hostile_values_arrive_unchanged_in_arguments_and_variables(ready_host: hosts.Machine) -> None:
    script = (
        "import json, os, sys; "
        "json.dump([sys.argv[1:], {k: v for k, v in os.environ.items() if k[:2] == 'V_'}], sys.stdout)"
    )
    service = CommandService(command=["/usr/bin/python3", "-c", script, *HOSTILE, "\x1b[31m"])
    unit = command_unit(onhost.writer(), "echo", service, cwd="/opt")
    variables = {f"V_{number}": value for number, value in enumerate(HOSTILE)}
    onhost.environment(ready_host, "echo", variables)
    text = unit.text.replace("Type=exec", "Type=oneshot\nStandardOutput=file:/var/tmp/echoed").replace(
        "Restart=always", "Restart=no"
    )
    text = text.replace("PrivateTmp=yes", "PrivateTmp=no").replace("ProtectSystem=strict", "ProtectSystem=no")
    onhost.install(ready_host, [UnitFile(name=unit.name, text=text)])
    ready_host.shell(f"systemctl start {unit.name}")
    arguments, environment = json.loads(ready_host.read("/var/tmp/echoed"))
    assert arguments == [*HOSTILE, "\x1b[31m"]
    assert environment == variables


def test_a_projects_own_template_wins(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "limits.j2").write_text("LimitNOFILE=7\n")
    unit = command_unit(onhost.writer(tmp_path), "x", CommandService(command=["/bin/true"]), cwd="/")
    assert "LimitNOFILE=7\n" in unit.text
    assert "TasksMax" not in unit.text


def _get(url: str) -> str:
    return f"python3 -c 'import urllib.request as r; print(r.urlopen(\"{url}\").status)'"
