"""What is read of a server's own check, and what is said where it gives none."""

from __future__ import annotations

import msgspec
import pytest

from voiceops.config.shipped import shipped
from voiceops.deploy.desired import host_check
from voiceops.deploy.host_check import check_on_host, read_check
from voiceops.errors import ServiceError, UsageError
from voiceops.kinds.command import CommandService
from voiceops.kinds.monitor import MonitorService
from voiceops.model.settings import Host, ServiceBase, Settings
from voiceops.ports import ProgramResult

FOUND = {
    "ok": False,
    "services": {"agent": "ready"},
    "room_count": None,
    "took_s": 0.2,
    "held_by": "",
    "findings": [
        {
            "rule": "wrong-key",
            "severity": "error",
            "cause": "LiveKit refuses.",
            "evidence": [],
            "fix": "inv start",
        }
    ],
}


class FakeTransport:
    """Answers every program with the same bytes."""

    name = "web1"

    def __init__(self, stdout: bytes) -> None:
        self.stdout = stdout
        self.argv: list[str] = []

    def run(self, argv: list[str], **_: object) -> ProgramResult:
        self.argv = argv
        return ProgramResult(exit_code=2, stdout=self.stdout, stderr=b"the last line\n")


def host(*, monitored: bool = True) -> Host:
    services: dict[str, ServiceBase] = {"web": CommandService(command=["true"])}
    if monitored:
        services["monitor"] = MonitorService()
    settings = Settings(project="desk", services=services)
    return Host(name="web1", address="web1", local=False, settings=settings)


def test_the_one_host_of_the_document_is_the_result_whatever_its_name_there() -> None:
    said = b"a warning\n" + msgspec.json.encode({"ok": False, "hosts": {"elsewhere": FOUND}})
    transport = FakeTransport(said)
    assert check_on_host(host(), transport) == FOUND  # type: ignore[arg-type]
    assert transport.argv[-3:] == ["monitor", "--once", "--json"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "it gave no answer"),
        (b'{"hosts": {}, "error": {"message": "no such key"}}', "no such key"),
        (b'{"hosts": {"a": {"ok": true}}}', "it gave no answer"),
    ],
)
def test_a_document_without_a_host_is_an_error_with_its_reason(said: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_check(said)
    with pytest.raises(ServiceError, match=why) as raised:
        check_on_host(host(), FakeTransport(said))  # type: ignore[arg-type]
    assert raised.value.hint == "run `inv deploy --host web1`"


def test_a_host_without_a_monitor_is_said() -> None:
    with pytest.raises(UsageError, match="web1 has no monitor"):
        check_on_host(host(monitored=False), FakeTransport(b""))  # type: ignore[arg-type]


def test_it_runs_as_the_monitor_s_user_in_its_sandbox_and_sees_other_processes() -> None:
    argv = host_check(
        host().settings, "monitor", unit="desk-check-1", limit_s=60.0, templates=[shipped("templates")]
    )
    assert "--uid=vo-desk" in argv
    properties = [one for one in argv if one.startswith("--property=")]
    assert properties.index("--property=ProtectProc=default") > properties.index(
        "--property=NoNewPrivileges=yes"
    )
