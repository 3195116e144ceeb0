"""docs/json: a schema for each command, as strict as the types that it is made of, with one name for one thing."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from invoke import Context, Exit
from jsonschema import Draft202012Validator

from tests.support.documents import checked, command_of, problem
from tests.support.json_schemas import FOLDER, as_files
from tests.support.results import Outcome
from voiceops.adapters.livekit import api
from voiceops.cli.command import CommandRun, Report, command
from voiceops.cli.program import VoiceopsProgram
from voiceops.commands import test as tests_command
from voiceops.commands.hosts import refuse_all, with_problems
from voiceops.errors import CallsInProgressError, ErrorEntry, UnreachableError, UsageError
from voiceops.fleet.run import HostResult
from voiceops.model.calls import CallFailure, CallResult
from voiceops.model.documents.commands import DOCUMENTS
from voiceops.model.documents.common import CallEntry, CallFailureEntry
from voiceops.model.documents.stack import StackDocument
from voiceops.model.settings import Host
from voiceops.model.states import ServiceState
from voiceops.resources.report import ResourceResult
from voiceops.stack.results import ServiceResult as ServiceResult
from voiceops.stack.stack import Stack
from voiceops.tasks import namespace
from voiceops.tasks.test import run_tests

SCHEMAS: dict[str, Any] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
NUMBERS = {
    "quality",
    "min_quality",
    "loss",
    "max_loss",
    "success",
    "expect_success",
    "share",
    "measured_share",
    "cpu_share",
    "callers_cpu_share",
    "memory_left_share",
    "load",
    "memory_bytes",
    "machine_cpu",
    "rms",
    "peak",
    "id",
    "pid",
    "line",
    "restarts",
    "exit_code",
    "exit_status",
    "status",
}
"""Numbers that are neither counts nor seconds: shares, loudness, what an operating system or HTTP numbers."""
INVENTORY = {
    "all": {
        "vars": {
            "project": "demo",
            "livekit": {"url": "ws://127.0.0.1:1", "api_key": "key", "api_secret": "s" * 40},
            "services": {"web": {"kind": "command", "command": ["/bin/sleep", "9"]}},
        },
        "children": {"local": {"hosts": {"localhost": {"ansible_connection": "local"}}}},
    }
}

Printed = Callable[..., Any]


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(schema, dict):
        yield schema
        for one in schema.values():
            yield from nodes(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from nodes(one)


def properties() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """File, name and schema of every property."""
    for file, schema in SCHEMAS.items():
        for node in nodes(schema):
            if isinstance(node.get("properties"), dict):
                for name, one in node["properties"].items():
                    yield file, name, one


def types_of(schema: dict[str, Any]) -> set[str]:
    found = schema.get("type", [])
    return {found} if isinstance(found, str) else set(found)


def test_each_command_has_a_schema_and_each_schema_a_command() -> None:
    commands = {name for name in namespace.task_names if "json" in namespace[name].common} | {run_tests.name}
    assert set(DOCUMENTS) == commands
    assert set(SCHEMAS) == {f"{name}.json" for name in commands} | {"common.json"}


def test_the_schemas_are_those_of_the_types() -> None:
    stored = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert stored == as_files(), "write them again: python -m tests.support.json_schemas"


@pytest.mark.parametrize("file", SCHEMAS)
def test_each_schema_is_one_of_draft_2020_12_that_refuses_what_it_does_not_name(file: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[file])
    assert SCHEMAS[file]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for node in nodes(SCHEMAS[file]):
        if node.get("type") == "object":
            assert "additionalProperties" in node, node
            assert node["additionalProperties"] is False or "properties" not in node, node


def test_what_several_commands_have_in_common_stands_once() -> None:
    places = [(name, file) for file, schema in SCHEMAS.items() for name in schema.get("$defs", {})]
    names = [name for name, _ in places]
    assert sorted(names) == sorted(set(names))
    shared = {"ErrorEntry", "HostFailure", "FailureDocument", "FindingEntry", "ServiceState", "RoomAgent"}
    assert shared <= set(SCHEMAS["common.json"]["$defs"])


def test_a_name_means_the_same_in_every_document() -> None:
    for file, name, schema in properties():
        where, types = f"{file}: {name}", types_of(schema)
        if name in ("ok", "changed"):
            assert types == {"boolean"} or schema == {"const": False}, where
        if name.endswith("_count"):
            assert types <= {"integer", "null"}, where
        if name.endswith("_s"):
            assert types <= {"number", "null"}, where
        if name == "error":
            assert schema == {"$ref": "#/$defs/ErrorEntry"} or schema == {
                "$ref": "common.json#/$defs/ErrorEntry"
            }, where
        if name == "hosts":
            assert types == {"object"}, where
        if name == "at" or name.endswith("_at"):
            assert types <= {"string", "null"}, where
        if name == "room":
            assert types == {"string"}, where
        if types & {"integer", "number"}:
            assert name.endswith(("_count", "_s")) or name in NUMBERS, where


def error_data_keys(function: ast.AST) -> set[str]:
    """The keys of what a function gives to errors as ``data``, written there or in a variable before."""
    given = [
        node.value for node in ast.walk(function) if isinstance(node, ast.keyword) and node.arg == "data"
    ]
    names = {node.id for value in given for node in ast.walk(value) if isinstance(node, ast.Name)} & {"data"}
    given += [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and {getattr(one, "id", "") for one in node.targets} & names
    ]
    tables = [node for value in given for node in ast.walk(value) if isinstance(node, ast.Dict)]
    return {str(key.value) for one in tables for key in one.keys if isinstance(key, ast.Constant)}


def test_errors_carry_only_what_their_schema_names() -> None:
    known = set(get_type_hints(ErrorEntry))
    unknown = []
    for path in sorted((FOLDER.parents[1] / "voiceops").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                unknown += [f"{path.name}: {node.name}: {key}" for key in error_data_keys(node) - known]
    assert unknown == []
    assert {"method", "code"} <= {
        key
        for node in ast.walk(ast.parse(Path(api.__file__).read_text()))
        if isinstance(node, ast.FunctionDef)
        for key in error_data_keys(node)
    }


def test_a_call_has_the_fields_of_its_type() -> None:
    assert set(get_type_hints(CallEntry)) == {field.name for field in msgspec.structs.fields(CallResult)}
    assert set(get_type_hints(CallFailureEntry)) == {one.name for one in msgspec.structs.fields(CallFailure)}


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_ok_is_true_exactly_when_the_exit_code_is_0(code: int) -> None:
    assert Report({"rooms": []}, exit_code=code).document == {"ok": code == 0, "rooms": []}
    assert list(Report({"rooms": []}).document) == ["ok", "rooms"]


def test_an_interrupted_command_prints_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    @command()
    def waits(run: CommandRun) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Exit) as ended:
        waits(Context(), inventory=None, json=True, debug=False)
    document = json.loads(capsys.readouterr().out)
    assert (ended.value.code, document["error"]["type"]) == (130, "InterruptedCommandError")
    assert problem("start.json", document) == ""


def test_a_document_that_drifts_is_refused() -> None:
    good = {"ok": True, "rooms": []}
    assert problem("rooms.list.json", good) == ""
    assert problem("rooms.list.json", good | {"count": 0})
    assert problem("rooms.list.json", {"rooms": []})
    assert problem("rooms.list.json", good | {"ok": 1})
    assert problem("rooms.list.json", {"ok": True, "error": UsageError("no").as_json()})
    assert problem("rooms.list.json", {"ok": False, "error": UsageError("no").as_json()}) == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("--inventory", "a.yaml", "ps", "--json"), "status"),
        (("check_running",), "check-running"),
        (("--json", "rooms.list"), "rooms.list"),
        (("my-own-task",), ""),
    ],
)
def test_the_command_of_a_command_line_is_found(arguments: tuple[str, ...], command: str) -> None:
    assert command_of(arguments) == command


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Run a command as a user types it in a project without servers; its document is as its schema says."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    (folder / "inventory.yaml").write_text(json.dumps(INVENTORY))

    def run(*arguments: str, code: int = 0) -> Any:
        ended_with = 0
        try:
            program = VoiceopsProgram(name="voiceops", namespace=namespace, binary="inv")
            program.run(["inv", *arguments, "--json"])
        except SystemExit as ended:
            ended_with = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert ended_with == code, out + err
        return checked(arguments, out, code)

    return run


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("inventory",), 0),
        (("inventory", "--graph"), 0),
        (("inventory", "--host", "localhost"), 0),
        (("inventory", "--host", "nobody"), 3),
        (("completion", "--shell", "bash"), 0),
        (("completion", "--shell", "fish", "--install"), 0),
        (("completion", "--shell", "csh"), 3),
        (("token", "--minutes", "1"), 0),
        (("token", "--minutes", "0"), 3),
        (("check-running",), 2),
        (("status",), 0),
        (("stop",), 0),
        (("logs",), 0),
        (("rotate-logs",), 0),
        (("deploy",), 3),
        (("rooms.list", "--host", "nobody"), 3),
        (("why", "--no-such-flag"), 3),
    ],
)
def test_what_a_command_prints_without_servers_is_as_its_schema_says(
    printed: Printed, arguments: tuple[str, ...], code: int
) -> None:
    assert "error" in printed(*arguments, code=code) or code != 3


UNREACHABLE = "nobody@127.0.0.1:1"


@pytest.mark.parametrize(
    "command",
    [
        "start",
        "stop",
        "restart",
        "check-running",
        "status",
        "why",
        "logs",
        "deploy",
        "setup",
        "drift",
        "releases",
        "lock",
        "unlock",
    ],
)
def test_one_host_alone_that_fails_stands_under_hosts(printed: Printed, command: str) -> None:
    document = printed(command, "--host", UNREACHABLE, code=5)
    (failure,) = document["hosts"].values()
    assert failure["error"]["type"] == "UnreachableError"
    assert (failure["ok"], document["ok"], "error" in document) == (False, False, False)


def test_this_machine_that_fails_stands_under_hosts(printed: Printed, tmp_path: Path) -> None:
    (tmp_path / "project" / ".voiceops").write_text("a file where the folder of the state has to be")
    for name in ("start", "restart"):
        failure = printed(name, code=1)["hosts"]["localhost"]
        assert failure["error"]["message"], name


def test_a_verification_that_fails_keeps_what_is_known_of_the_services(printed: Printed) -> None:
    try:
        document = printed("start", "--verify", code=1)
        assert "was not answered" in document["error"]["message"]
        assert document["hosts"]["localhost"]["services"]["web"]["state"] == "ready"
    finally:
        printed("stop")


def test_a_call_in_progress_on_one_host_skips_the_others(printed: Printed) -> None:
    def refuse(host: Host, stack: Stack) -> None:
        if host.name == "127.0.0.2":
            raise CallsInProgressError("1 call in progress")

    run = CommandRun(json=True, host="a@127.0.0.1:1,b@127.0.0.2:1")
    done: dict[str, HostResult[None]] = refuse_all(run, run.project.hosts, refuse)
    report = with_problems(run, done, Report({"changed_count": 0, "hosts": {}}))
    assert problem("stop.json", report.document) == ""
    hosts = report.data["hosts"]
    assert isinstance(hosts, dict)
    assert hosts["127.0.0.2"]["error"]["type"] == "CallsInProgressError"
    assert "127.0.0.2 has calls" in hosts["127.0.0.1"]["skipped"]


@pytest.mark.parametrize("command", ["start", "stop", "restart", "check-running", "logs"])
def test_a_service_that_the_host_does_not_run_is_a_mistake_in_the_arguments(
    printed: Printed, command: str
) -> None:
    document = printed(command, "--only", "wbe", code=3)
    assert "hosts" not in document
    assert "'web'" in document["error"]["hint"]


def test_init_says_of_each_file_whether_it_made_it(printed: Printed) -> None:
    made = printed("init")
    assert made["changed_count"] == sum(one["changed"] for one in made["files"].values()) > 0
    assert made["files"]["inventory.yaml"] == {"changed": False}
    assert printed("init")["changed_count"] == 0


def test_the_report_of_the_tests_is_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(passed=2, seconds={"unit": 1.5}, slowest=[(0.5, "test_a")])

    def write_report(command: list[str], *, to_stderr: bool) -> int:
        report = Path(command[command.index("--report") + 1])
        report.write_text(json.dumps({"ok": outcome.ok, **asdict(outcome)}))
        return 0

    monkeypatch.setattr(tests_command, "_run", write_report)
    monkeypatch.setattr(tests_command, "ensure", lambda root, lock: Path())
    report = tests_command.run_stages(CommandRun(json=True), only="unit", fast=False, k="", repeat=1)
    assert problem("test.json", report.document) == ""
    assert report.data["slowest"] == [{"test": "test_a", "took_s": 0.5}]


def test_hosts_that_fail_stand_beside_the_others() -> None:
    done: dict[str, HostResult[None]] = {
        "web1": HostResult(host="web1"),
        "web2": HostResult(host="web2", error=UnreachableError("web2: no answer")),
        "web3": HostResult(host="web3", skipped="left as it is, because web2 failed"),
    }
    data: StackDocument = {"changed_count": 0, "hosts": {"web1": {"ok": True, "services": {}}}}
    report = with_problems(CommandRun(json=True), done, Report(data))
    assert problem("start.json", report.document) == ""
    assert (report.exit_code, report.document["ok"]) == (5, False)
    assert isinstance(report.data["hosts"], dict)
    assert list(report.data["hosts"]) == ["web1", "web2", "web3"]
    assert report.data["hosts"]["web3"]["skipped"] == "left as it is, because web2 failed"


def test_what_went_wrong_with_a_service_or_a_resource_is_said_in_its_entry() -> None:
    service = ServiceResult(state=ServiceState.FAILED, pid=7, error=UsageError("no", hint="yes"))
    resource = ResourceResult(id="file:/x", result="failed", error="no space", log=("a",), seconds=0.1)
    assert problem("common.json#/$defs/ServiceEntry", service.as_json()) == ""
    assert problem("common.json#/$defs/ResourceEntry", resource.as_json()) == ""
    assert resource.as_json()["detail"] == "no space"
    assert service.as_json()["pids"] == [7]
