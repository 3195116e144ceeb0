"""Bring a host to its desired state: lock, plan, upload, apply in order, settle."""

from __future__ import annotations

import os
import time

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.disk import describe_failure
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.host import ResourceHandler, ResourceRun
from voiceops.remote.onhost.journal import Journal
from voiceops.remote.onhost.lock import Lock
from voiceops.remote.onhost.package_install import PackageInstaller
from voiceops.remote.onhost.state_folder import check_folder, open_folder, read_lease
from voiceops.remote.onhost.survey import ResourceSurvey
from voiceops.remote.onhost.units import DAEMON_RELOAD, UNIT_FOLDERS, forget_facts, reload_units
from voiceops.remote.onhost.venv_build import VenvBuilder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import ApplyRequest, LockRequest, ResourcesAnswer
    from voiceops.remote.onhost.base import Spec


class ResourceApplication(ResourceSurvey):
    """Applies a list of resources. The first failure stops the rest: nothing restarts on half a change."""

    def __init__(self, run: ResourceRun) -> None:
        super().__init__(run)
        self._resumed = set(run.journal.interrupted)

    def make_handlers(self) -> dict[str, ResourceHandler]:
        return {**super().make_handlers(), "package": PackageInstaller(), "venv": VenvBuilder()}

    def apply(self) -> None:
        """Walk the list again, each resource planned anew right before its turn."""
        unloaded = self.unloaded()
        self.run.changed.clear()
        self.run.guessing = False
        forget_facts(self.run)
        for spec in self.ordered:
            if self.failed:
                self.results[spec["id"]] = {
                    "id": spec["id"],
                    "result": "skipped",
                    "note": f"after {self.failed}",
                }
                continue
            self._settle({need for need in spec.get("needs", ()) if need in self.run.specs})
            self._step(spec)
        if not self.failed:
            reload_units(self.run, facts={})
            self.tell_reload(unloaded)
        self._settle(None)

    def _step(self, spec: Spec) -> None:
        started = time.monotonic()
        key = spec["id"]
        try:
            self.run.cancel.check()
            result, plan = self.planned(spec)
            self.results[key] = result
            if plan is None:
                self.failed = key
            elif plan.changes:
                self.run.channel.send("step", {"id": key, "changes": plan.changes})
                self.run.journal.intent(key, self._wakes(spec))
                self.handlers[spec["type"]].apply(spec, self.run, plan)
                self.run.journal.done(key)
                self.run.changed.add(key)
                if key in self._resumed:
                    result["note"] = "an earlier run left this half done"
            elif key in self.run.journal.interrupted or key in self.run.journal.pending:
                self.run.journal.done(key)
        except (Failed, OSError) as error:
            self.results[key] = {
                **self.results.get(key, {"id": key, "result": "failed"}),
                **describe_failure(error),
            }
            self.failed = key
        self.results[key]["seconds"] = round(time.monotonic() - started, 3)

    def _wakes(self, spec: Spec) -> set[str]:
        """Who must act after this change, and be reminded if we die before they did."""
        key = spec["id"]
        wakes = {
            other["id"]
            for other in self.ordered
            for list_name in ("restart_on", "reload_on", "on_change")
            if key in other.get(list_name, ())
        }
        if spec.get("path", "").startswith(UNIT_FOLDERS):
            wakes.add(DAEMON_RELOAD)
        if spec["type"] in ("unit", "command") and (key in self.run.journal.pending or self._reacts(spec)):
            wakes.add(key)  # it reacts to a change: until it is done it stays due
        return wakes

    def _reacts(self, spec: Spec) -> bool:
        return bool(self.run.causes(spec, "restart_on") or self.run.causes(spec, "on_change"))

    def _settle(self, only: set[str] | None) -> None:
        if only is not None and not only:
            return
        try:
            failures = self.units.settle(self.run, only)
        except Failed as cancelled:
            failures = dict.fromkeys(self.units.unsettled(), cancelled)
        for key, error in failures.items():
            # It must start again next time, although its own step is over.
            self.run.journal.write({"intent": key, "wakes": [key]})
            self.run.journal.write({"failed": key})
            self.results[key] = {
                **self.results.get(key, {"id": key, "result": "failed"}),
                **describe_failure(error),
            }
            self.failed = self.failed or key


def host_lock(request: ApplyRequest | LockRequest, channel: Channel) -> Lock:
    """Return the host's lock, taken."""
    folder = request["state_dir"]
    check_folder(folder)
    open_folder(folder)
    lock = Lock(folder, request["lock"])
    lock.take(lambda holder: channel.send("waiting", holder), channel.check)
    return lock


@answers("resources.apply")
def apply_resources(request: ApplyRequest, channel: Channel) -> None:
    """Apply under the lock, answer, and keep the lock as long as the request says."""
    channel.note_signals()
    lock = host_lock(request, channel)
    try:
        channel.send("done", _applied(request, channel, lock))
        channel.stay(request["stay_s"], lock.renew)
    finally:
        lock.release()


def _applied(request: ApplyRequest, channel: Channel, lock: Lock) -> ResourcesAnswer:
    run = ResourceRun(request, channel, Journal(request["state_dir"], readonly=False))
    work = ResourceApplication(run)
    work.survey()
    if work.wanted:
        run.blobs.fetch(work.wanted)
    if work.has_work():
        channel.watch(lock.renew)
        lease = request["lock"]
        run.journal.begin({"owner": lease["owner"], "reason": lease["reason"]})
        work.apply()
        if not work.failed:
            run.blobs.clear()
        run.journal.write({"end": work.failed or "ok", "changed": len(run.changed)})
    run.hashes.save()
    return work.answer()


@answers("lock.hold")
def hold_lock(request: LockRequest, channel: Channel) -> None:
    """Take the lock or change its lease, answer, and keep it as long as the request says."""
    channel.note_signals()
    lock = host_lock(request, channel)
    try:
        channel.send("done", {"lease": read_lease(os.path.join(request["state_dir"], "lock"))})
        channel.stay(request["stay_s"], lock.renew)
    finally:
        lock.release()
