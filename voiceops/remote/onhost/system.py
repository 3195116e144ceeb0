"""Commands that run until they have run, and kernel settings."""

from __future__ import annotations

import errno
import os

from voiceops.remote.onhost.base import Failed, expect
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


class CommandHandler(ResourceHandler):
    """A command with a reason to run: something is missing, a question says no, or a change happened."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        causes = run.causes(spec, "on_change")
        if causes:
            plan.changes.append(f"run, because of {', '.join(causes)}")
        if spec.get("creates") and not os.path.lexists(spec["creates"]):
            plan.changes.append(f"run: {spec['creates']} is missing")
        if spec.get("unless") and not plan.changes:
            self._ask(spec, run, plan)
        return plan

    def _ask(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        first = [need for need in spec.get("needs", ()) if need in run.changed]
        if run.guessing and first:
            plan.unknown = f"its question can't be asked before {', '.join(first)} changed"
            return
        child = run.child(
            *spec["unless"], env=spec.get("env"), cwd=spec.get("cwd"), timeout_s=spec["timeout_s"]
        )
        if child.code != 0:
            plan.changes.append(f"run: {spec['unless'][0]} exited {child.code}")

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        child = run.child(
            *spec["argv"],
            stdin=spec.get("stdin", "").encode(),
            env=spec.get("env"),
            cwd=spec.get("cwd"),
            timeout_s=spec["timeout_s"],
        )
        expect(child, spec["argv"][0])
        if spec.get("creates") and not os.path.lexists(spec["creates"]):
            raise Failed(f"{spec['argv'][0]} exited 0 and did not create {spec['creates']}", child.tail())


class SysctlHandler(ResourceHandler):
    """Kernel settings of the running kernel; the file that keeps them is a resource of its own."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        refused = []
        for key, wanted in spec["values"].items():
            found = _read(_proc(key))
            if found is None and _in_container():
                refused.append(key)
            elif found is None:
                raise Failed(f"the kernel has no setting {key}")
            elif found.split() != wanted.split():
                if _in_container() and not _writable(_proc(key), found):
                    refused.append(key)
                else:
                    plan.changes.append(f"{key} {found} -> {wanted}")
        if refused:
            plan.note = f"this host is a container: set {', '.join(refused)} on the machine that runs it"
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        for key, wanted in spec["values"].items():
            if any(change.startswith(f"{key} ") for change in plan.changes):
                try:
                    with open(_proc(key), "w") as file:
                        file.write(wanted)
                except OSError as error:
                    raise Failed(f"the kernel refuses {key} = {wanted}: {error.strerror}") from None


def _proc(key: str) -> str:
    return "/proc/sys/" + key.replace(".", "/")


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def _in_container() -> bool:
    return os.path.exists("/run/systemd/container") or os.path.exists("/.dockerenv")


def _writable(path: str, is_now: str) -> bool:
    """Whether the kernel takes a write, asked by writing what is there."""
    try:
        with open(path, "w") as file:
            file.write(is_now)
    except OSError as error:
        return error.errno not in (errno.EROFS, errno.EPERM, errno.EACCES)
    return True
