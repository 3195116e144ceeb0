"""systemd units: enabled, running, restarted on change, and watched until they have settled."""

from __future__ import annotations

import time

from voiceops.remote.onhost.base import Failed, expect
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun
from voiceops.remote.onhost.unit_state import OBSERVED_PROPERTIES, shown_units, sync_journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec

DAEMON_RELOAD = "systemd:daemon-reload"
"""In the journal: unit files that systemd has not read yet."""
PROPERTIES = "Names,NeedDaemonReload," + OBSERVED_PROPERTIES
UNIT_FOLDERS = (
    "/etc/systemd/system/",
    "/usr/lib/systemd/system/",
    "/lib/systemd/system/",
    "/run/systemd/system/",
)
RUNNING = ("active", "reloading", "refreshing")


def show_units(run: ResourceRun, names: list[str]) -> dict[str, dict[str, str]]:
    """The state of units, by one ``systemctl show`` for all of them and for those that are observed afterwards."""
    others = [one for one in run.observed_units if one not in names]
    # systemctl prints units that are named first, in their order, and then those that match patterns.
    run.shown = shown_units(PROPERTIES, *names, *others, cancel=run.cancel)
    return dict(zip(names, run.shown))  # noqa: B905 - strict= came with Python 3.10


def unit_log(run: ResourceRun, name: str) -> list[str]:
    """The last lines that the unit wrote."""
    sync_journal()
    return run.child("journalctl", "-u", name, "-n", "20", "-o", "cat", "--no-pager", errors=False).tail()


def forget_facts(run: ResourceRun) -> None:
    run.facts.clear()
    run.shown = None


class UnitHandler(ResourceHandler):
    """One unit. A start counts only once it has stayed up for ``settle_s``."""

    def __init__(self) -> None:
        self._settling: dict[str, tuple[Spec, float, dict[str, str]]] = {}

    def facts(self, spec: Spec, run: ResourceRun) -> dict[str, str]:
        if spec["name"] not in run.facts:
            names = [other["name"] for other in run.specs.values() if other["type"] == "unit"]
            run.facts.update(show_units(run, names))
        return run.facts[spec["name"]]

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        facts = self.facts(spec, run)
        if facts.get("LoadState") in ("not-found", "bad-setting", "error"):
            # What an earlier step of this run brings or fixes is loaded by daemon-reload, which comes first.
            if not run.changed and DAEMON_RELOAD not in run.journal.pending:
                self._judge_missing(spec, facts)
            facts = {**facts, "UnitFileState": "disabled"}
        self._plan_enabled(spec, facts, plan)
        self._plan_running(spec, facts, run, plan)
        return plan

    def _judge_missing(self, spec: Spec, facts: dict[str, str]) -> None:
        wanted = spec.get("enabled") or spec.get("running")
        if wanted:
            raise Failed(f"unit {spec['name']} can't be loaded: {facts['LoadState']}")

    def _plan_enabled(self, spec: Spec, facts: dict[str, str], plan: ResourcePlan) -> None:
        is_now = facts.get("UnitFileState", "")
        if spec.get("enabled") is None:
            return
        if is_now in ("static", "generated", "transient", "alias", "indirect"):
            plan.note = f"{is_now} units can't be enabled or disabled" if is_now != "indirect" else ""
        elif spec["enabled"] != (is_now in ("enabled", "enabled-runtime")):
            plan.changes.append("enable" if spec["enabled"] else "disable")
            plan.data["enable"] = spec["enabled"]

    def _plan_running(self, spec: Spec, facts: dict[str, str], run: ResourceRun, plan: ResourcePlan) -> None:
        up = facts.get("ActiveState") in RUNNING
        verb = ""
        causes = run.causes(spec, "restart_on")
        reload_causes = [cause for cause in spec.get("reload_on", ()) if cause in run.changed]
        if spec.get("running") is False:
            verb = "stop" if up or facts.get("ActiveState") == "activating" else ""
        elif spec.get("running") and not up:
            verb = "start"
        elif not up:
            verb, causes, reload_causes = "", [], []  # whoever starts it gets the new configuration
        elif causes and set(causes) <= set(spec.get("reload_on", ())):
            verb, reload_causes = "reload", causes
        elif causes:
            verb = "restart"
        elif reload_causes:
            verb = "reload"
        if verb == "start":
            plan.changes.append(f"start, because it is {facts.get('ActiveState', 'unknown')}")
        elif verb in ("restart", "reload"):
            plan.changes.append(f"{verb}, because of {', '.join(causes or reload_causes)}")
        elif verb:
            plan.changes.append(verb)
        plan.data["verb"] = verb
        if up and not verb and spec.get("running") and self._young(spec, facts):
            self._settling[spec["id"]] = (spec, time.monotonic() + spec["settle_s"], facts)

    def _young(self, spec: Spec, facts: dict[str, str]) -> bool:
        """Started so lately that it may be one turn of a restart loop."""
        started_s = int(facts.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        return started_s > 0 and time.monotonic() - started_s < spec["settle_s"]

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        name = spec["name"]
        reload_units(run, facts=self.facts(spec, run))
        if "enable" in plan.data:
            verb = "enable" if plan.data["enable"] else "disable"
            expect(run.child("systemctl", verb, name), f"systemctl {verb} {name}")
        verb = plan.data["verb"]
        forget_facts(run)
        if not verb:
            return
        if verb in ("start", "restart"):
            # A unit that hit its start limit refuses every start until it is told to forget.
            run.child("systemctl", "reset-failed", name)
        child = run.child("systemctl", verb, name, timeout_s=spec["timeout_s"])
        if child.code != 0:
            raise Failed(f"systemctl {verb} {name} exited {child.code}", child.tail() + unit_log(run, name))
        if verb in ("start", "restart") and spec.get("running") is not False:
            facts = show_units(run, [name])[name]
            self._settling[spec["id"]] = (spec, time.monotonic() + spec["settle_s"], facts)

    def unsettled(self) -> set[str]:
        return set(self._settling)

    def settle(self, run: ResourceRun, only: set[str] | None = None) -> dict[str, Failed]:
        """Watch what was started until it has stayed up long enough; the failures, by id."""
        waiting = {key: value for key, value in self._settling.items() if only is None or key in only}
        failures: dict[str, Failed] = {}
        while waiting:
            names = [spec["name"] for spec, _, _ in waiting.values()]
            seen = show_units(run, names)
            now = time.monotonic()
            for key, (spec, until, first) in list(waiting.items()):
                over = now >= until
                cause = judge(first, seen[spec["name"]], over=over)
                if cause:
                    failures[key] = Failed(f"{spec['name']} {cause}", unit_log(run, spec["name"]))
                if cause or over:
                    del waiting[key], self._settling[key]
            if waiting:
                run.cancel.check()
                time.sleep(0.15)
        return failures


def judge(first: dict[str, str], now: dict[str, str], *, over: bool) -> str:
    """Why a unit that was started is not up, or an empty string."""
    restarts = int(now.get("NRestarts") or 0) - int(first.get("NRestarts") or 0)
    state = now.get("ActiveState", "unknown")
    if first.get("Type") == "oneshot" and now.get("Result") == "success":
        return ""
    if restarts > 0:
        return f"died and was restarted {restarts} times within its settle time (exit {now.get('ExecMainStatus')})"
    if now.get("SubState") == "auto-restart":
        return f"died and waits for its next restart (exit {now.get('ExecMainStatus')})"
    if state in ("failed", "inactive", "deactivating"):
        return f"is {state} ({now.get('Result')}, exit {now.get('ExecMainStatus')})"
    if state in RUNNING and now.get("MainPID") != first.get("MainPID") and first.get("MainPID") != "0":
        return "died: its main process is another one now"
    if over and state not in RUNNING:
        return f"is still {state} after its settle time"
    return ""


def reload_units(run: ResourceRun, *, facts: dict[str, str]) -> None:
    """daemon-reload where a unit file changed, in this run or in one that was killed."""
    if DAEMON_RELOAD in run.journal.pending or facts.get("NeedDaemonReload") == "yes":
        expect(run.child("systemctl", "daemon-reload"), "systemctl daemon-reload")
        run.journal.done(DAEMON_RELOAD)
        forget_facts(run)
