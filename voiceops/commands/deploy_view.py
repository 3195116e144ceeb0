"""What a deploy shows: a table of hosts and resources, progress for each host, and the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voiceops.cli.command import CommandRun, Report, show_error
from voiceops.commands.documents import host_failure
from voiceops.errors import ServiceError
from voiceops.model.quoting import printable
from voiceops.util.terminal import columns, styled
from voiceops.util.times import iso_time

if TYPE_CHECKING:
    from voiceops.deploy.fleet import Fleet, HostRun
    from voiceops.deploy.operations import DeployRun
    from voiceops.deploy.rollout import HostDeployment
    from voiceops.model.calls import CallResult
    from voiceops.model.documents.common import HostFailure
    from voiceops.model.documents.servers import DeployDocument, DeployedHost


WIDE = 160
"""Columns where there is no terminal."""


class DeployView:
    """Lines on stderr; uploads redraw their line in a terminal."""

    def __init__(self, run: CommandRun, what: str) -> None:
        self.run = run
        self.what = what
        self.on_begin: Callable[[Sequence[str]], None] = lambda hosts: None
        """Gets the names of the hosts that are about to be changed."""
        self._redraws = styled(sys.stderr)
        self._open_line = False

    def say(self, line: str) -> None:
        """One line of progress."""
        if self._open_line:
            sys.stderr.write("\n")
            self._open_line = False
        self.run.say(line)

    def event(self, host: str, kind: str, data: Mapping[str, Any]) -> None:
        """What the payload reports while it works."""
        if kind == "step":
            self.say(f"{host}: {data['id']}: {', '.join(data['changes'][:3])}")
        elif kind == "upload":
            self._upload(host, data)
        elif kind == "waiting":
            reason = f" ({data['reason']})" if data.get("reason") else ""
            self.say(f"{host}: waits for {data['owner']}{reason}")

    def _upload(self, host: str, data: Mapping[str, Any]) -> None:
        if data["size"] < 1_000_000:
            return
        percent = data["sent"] * 100 // data["size"]
        name = str(data["label"]).rpartition("/")[2]
        bar = f"[{'#' * (percent // 5):.<20}] {percent} % of {data['size'] / 1e6:.0f} MB"
        width = columns(sys.stderr) or WIDE
        # A line that wraps could not be drawn over.
        text = f"{host}: {shortened(printable(name), max(12, width - len(host) - len(bar) - 4))} {bar}"
        if self._redraws:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._open_line = percent < 100
            if percent == 100:
                sys.stderr.write("\n")
        elif percent == 100:
            self.say(text)

    def service(self, host: str, service: str, state: str, words: str) -> None:
        """What the stack reports while it works."""
        self.say(f"{host}: {service}: {state}{' ' + words if words else ''}")

    def plan(self, fleet: Fleet) -> None:
        """The table of what differs, host by host; one host alone is listed at the end."""
        if not self.run.json and len(fleet.runs) > 1:
            planned = [run for run in fleet.runs if run.planned]
            for line in plan_lines(planned, columns(sys.stderr) or WIDE):
                self.say(line)

    def begin(self, hosts: Sequence[str]) -> None:
        """These hosts are about to be changed."""
        self.on_begin(hosts)

    def done(self, run: HostRun) -> None:
        """One host is through."""
        if run.error is not None:
            self.say(f"{run.name}: failed")
            if not self.run.json:
                show_error(run.error, as_json=False)


def plan_lines(runs: list[HostRun], width: int = 80) -> list[str]:
    """Rows are what differs, columns hosts: ``+`` changes, ``?`` can't be known yet, ``.`` is as declared.

    As many hosts side by side as ``width`` has room for; the others follow in tables of their own.
    """
    rows: dict[str, dict[str, str]] = {}
    for run in runs:
        assert run.planned is not None
        for result in run.planned.report.results:
            if result.result != "ok":
                rows.setdefault(result.id, {})[run.name] = "?" if result.result == "unknown" else "+"
        for action in run.planned.actions:
            if action.changes:
                rows.setdefault(f"service:{action.service}", {})[run.name] = action.verb.value
    if not rows:
        return []
    widths = {run.name: max(len(run.name), 7) for run in runs}
    label = min(max(len(row) for row in rows), max(20, width - max(widths.values()) - 2))
    lines: list[str] = []
    hosts = list(widths)
    while hosts:
        chosen = [hosts.pop(0)]
        while hosts and label + sum(widths[name] + 2 for name in [*chosen, hosts[0]]) <= width:
            chosen.append(hosts.pop(0))
        cells = [("", {name: name for name in chosen}), *rows.items()]
        lines += [
            "  ".join(
                [
                    shortened(row, label).ljust(label),
                    *(marks.get(name, ".").ljust(widths[name]) for name in chosen),
                ]
            ).rstrip()
            for row, marks in cells
        ]
    return lines


def shortened(text: str, width: int) -> str:
    """The beginning and the end: of a path, both tell it from others."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def deploy_report(view: DeployView, done: DeployRun, *, check: bool) -> Report:
    """The JSON of DESIGN, the text for people, and the exit code."""
    fleet = done.fleet
    document: DeployDocument = {
        "check": check,
        "changed_count": sum(one.result.changed for one in fleet.runs if one.result and one.ok),
        "hosts": {one.name: _host(one, check=check) for one in fleet.runs},
    }
    if done.call is not None:
        document["call"] = done.call.as_json()
    differs = check and not all(one.planned and one.planned.as_declared for one in fleet.runs)
    unheard = done.call is not None and not done.call.ok
    code = fleet.exit_code(otherwise=2 if differs else 1 if unheard else 0)
    return Report(document, "\n".join(_text(view, done, check=check)), code)


def _host(run: HostRun, *, check: bool) -> DeployedHost | HostFailure:
    if run.error is not None:
        return host_failure(run.error)
    if run.skipped:
        return host_failure(ServiceError(f"{run.name}: {run.skipped}"), skipped=run.skipped)
    result = run.result
    assert result is not None
    host: DeployedHost = {
        "ok": result.as_declared if check else True,
        "changed_count": result.changed,
        "release": release_of(result),
        "resources": [one.as_json() for one in result.report.results],
        "services": {name: one.as_json() for name, one in result.services.items()},
    }
    if result.calls:
        host["calls"] = {name: call.as_json() for name, call in result.calls.items()}
    if result.canaries:
        host["canaries"] = {name: canary.as_json() for name, canary in result.canaries.items()}
    if check and not result.services:
        host["services"] = {
            one.service: {"changed": True, "action": one.verb.value, "detail": one.reason}
            for one in result.actions
            if one.changes
        }
    # What keeps a host from being as declared although nothing on it differs.
    if check and result.unproved:
        host["unproved"] = result.unproved
    if check and result.bad:
        host["bad"] = {
            name: {"release": one.release, "at": iso_time(one.at), "by": one.by, "reason": one.why}
            for name, one in result.bad.items()
        }
    return host


def release_of(result: HostDeployment) -> str:
    """One word for what the agents of a host run: of several, each with its name."""
    if len(result.releases) == 1:
        return next(iter(result.releases.values()))
    return ",".join(f"{name}={release}" for name, release in result.releases.items())


def _text(view: DeployView, done: DeployRun, *, check: bool) -> list[str]:
    lines = []
    several = len(done.fleet.runs) > 1
    for one in done.fleet.runs:
        if one.error is not None:
            lines.append(f"{one.name}: failed: {one.error.message.removeprefix(f'{one.name}: ')}")
        elif one.skipped:
            lines.append(f"{one.name}: not touched: {one.skipped}")
        elif one.result is not None:
            lines += _host_text(one.name, one.result, view, check=check)
            lines += [f"  {_call_text(call)}" for call in _calls_of(one).values() if several]
    if done.call is not None and not (several and any(_calls_of(one) for one in done.fleet.runs)):
        lines.append(_call_text(done.call))
    return lines


def _calls_of(run: HostRun) -> Mapping[str, CallResult]:
    return run.deployed.calls if run.deployed is not None else {}


def _host_text(name: str, result: HostDeployment, view: DeployView, *, check: bool) -> list[str]:
    release = release_of(result)
    told = f", release {release}" if release else ""
    if view.what == "drift":
        differ = [one.id for one in result.report.results if one.result != "ok"]
        count = len(differ) + sum(one.changes for one in result.actions)
        same = "not proved" if result.unrecorded else "as declared"
        lines = [f"{name}: {count} differ{told}" if count else f"{name}: {same}{told}"]
    else:
        lines = [f"{name}: {result.changed} {'would change' if check else 'changed'}{told}"]
    for one in result.report.results:
        if check and one.result != "ok":
            lines.append(f"  {one.id}: {', '.join(one.changes) or one.note or one.error}")
        if view.run.diff and one.diff:
            lines += [f"    {line}" for line in one.diff.splitlines()]
    lines += [f"  {service}: canary: {canary}" for service, canary in result.canaries.items()]
    if check:
        lines += [f"  {one.service}: {one.verb.value}, {one.reason}" for one in result.actions if one.changes]
        lines += _doubt_lines(result)
    return lines


def _doubt_lines(result: HostDeployment) -> list[str]:
    from voiceops.deploy.ledger import marked_bad

    lines = [f"  {marked_bad(service, entry)}" for service, entry in result.bad.items()]
    if result.unproved:
        lines.append(f"  not proved: {result.unproved}")
    elif result.unrecorded and not result.changed:
        lines.append("  not proved: the last deploy ended before its call")
    return lines


def _call_text(call: CallResult) -> str:
    from voiceops.calls.text import one_call

    if call.ok and call.audio_s is not None:
        return f"a call heard the agent after {call.audio_s:.2f} s"
    return f"the call {one_call(call)}"
