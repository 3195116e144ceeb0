"""The plan of several hosts fits the terminal, whatever the number of hosts and the length of paths."""

from __future__ import annotations

import pytest

from voiceops.commands.deploy_view import plan_lines, shortened
from voiceops.deploy.fleet import HostRun
from voiceops.deploy.rollout import HostDeployment
from voiceops.model.settings import Host, Settings
from voiceops.resources.report import HostReport, ResourceResult
from voiceops.stack.reconcile import Action, Verb


class Nowhere:
    """A transport that nobody uses."""

    def __init__(self, name: str) -> None:
        self.name = name


def planned(name: str, **results: str) -> HostRun:
    host = Host(name=name, local=False, address=name, settings=Settings(project="p"))
    found = tuple(ResourceResult(id=f"file:/{key}", result=value) for key, value in results.items())
    run = HostRun(host=host, transport=Nowhere(name), open=lambda: None)  # type: ignore[arg-type]
    actions = (Action(service="web", verb=Verb.RESTART if "a" in results else Verb.KEEP),)
    run.planned = HostDeployment(host=name, report=HostReport(host=name, results=found), actions=actions)
    return run


def test_rows_are_what_differs_and_columns_are_hosts() -> None:
    lines = plan_lines([planned("web1", a="changed", b="ok"), planned("web2", b="ok", c="unknown")])
    assert lines == [
        "             web1     web2",
        "file:/a      +        .",
        "service:web  restart  .",
        "file:/c      .        ?",
    ]


def test_hosts_as_declared_need_no_table() -> None:
    assert plan_lines([planned("web1", b="ok"), planned("web2", b="ok")]) == []


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_many_hosts_with_long_paths_fit(columns: int) -> None:
    runs = [planned(f"voice{number}.example.com", **{"x" * 90: "changed"}) for number in range(20)]
    lines = plan_lines(runs, columns)
    assert max(map(len, lines)) <= columns
    assert all(
        sum(line.count(run.name + " ") + line.endswith(run.name) for line in lines) == 1 for run in runs
    )
    assert sum(line.count("+") for line in lines) == 20


def test_what_is_shortened_keeps_both_ends() -> None:
    assert shortened("/opt/project/releases/abc", 11) == "/opt.../abc"
    assert shortened("short", 11) == "short"
