"""Plan all resources of a host, in the order of their relations."""

from __future__ import annotations

from voiceops.remote.onhost.accounts import GroupHandler, UserHandler
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.disk import describe_failure
from voiceops.remote.onhost.files import AbsentHandler, DirectoryHandler, FileHandler, SymlinkHandler
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun
from voiceops.remote.onhost.packages import PackageHandler
from voiceops.remote.onhost.system import CommandHandler, SysctlHandler
from voiceops.remote.onhost.trees import TreeHandler
from voiceops.remote.onhost.units import DAEMON_RELOAD, UnitHandler
from voiceops.remote.onhost.venvs import VenvHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import ResourceOutcome, ResourcesAnswer
    from voiceops.remote.onhost.base import Spec


def in_order(specs: list[Spec]) -> list[Spec]:
    """As listed, except that what a resource needs or reacts to comes before it."""
    by_id = {spec["id"]: spec for spec in specs}
    done: dict[str, bool] = {}
    ordered: list[Spec] = []

    def visit(spec: Spec, path: tuple[str, ...]) -> None:
        if done.get(spec["id"]):
            return
        if spec["id"] in path:
            raise Failed(f"resources need each other: {' -> '.join((*path, spec['id']))}")
        for key in ("needs", "restart_on", "reload_on", "on_change"):
            for other in spec.get(key, ()):
                if other in by_id:
                    visit(by_id[other], (*path, spec["id"]))
        done[spec["id"]] = True
        ordered.append(spec)

    for spec in specs:
        visit(spec, ())
    return ordered


class ResourceSurvey:
    """What applying all resources of a request would do."""

    def __init__(self, run: ResourceRun) -> None:
        self.run = run
        self.units = UnitHandler()
        self.handlers = self.make_handlers()
        self.ordered = in_order(list(run.specs.values()))
        self.results: dict[str, ResourceOutcome] = {}
        self.failed = ""
        """The id of the first resource that failed while it was applied."""
        self.wanted: list[tuple[str, int]] = []
        """Content that the plans need: hash and size."""

    def make_handlers(self) -> dict[str, ResourceHandler]:
        return {
            "absent": AbsentHandler(),
            "command": CommandHandler(),
            "directory": DirectoryHandler(),
            "file": FileHandler(),
            "group": GroupHandler(),
            "package": PackageHandler(),
            "symlink": SymlinkHandler(),
            "sysctl": SysctlHandler(),
            "tree": TreeHandler(),
            "unit": self.units,
            "user": UserHandler(),
            "venv": VenvHandler(),
        }

    def plan(self, spec: Spec) -> ResourcePlan:
        return self.handlers[spec["type"]].plan(spec, self.run)

    def survey(self) -> None:
        """Plan everything as the host is now: enough to know whether anything is to do, and what to upload."""
        for spec in self.ordered:
            if spec.get("secret") and "sha256" in spec:
                self.run.blobs.mark_secret(spec["sha256"])
            result, plan = self.planned(spec)
            self.results[spec["id"]] = result
            if result["result"] != "ok":
                # A failure counts as well: what is missing now may be made by an earlier step.
                self.run.changed.add(spec["id"])
            for sha256, size in plan.blobs if plan else ():
                self.run.blobs.expect_use(sha256)
                self.wanted.append((sha256, size))
        self.tell_reload(self.unloaded())

    def unloaded(self) -> set[str]:
        """Unit files that a killed run wrote, and systemd does not know yet."""
        return set(self.run.journal.pending.get(DAEMON_RELOAD, ()))

    def tell_reload(self, files: set[str]) -> None:
        for key in files & set(self.results):
            result = self.results[key]
            if result["result"] == "ok":
                result["result"], result["changes"] = "changed", ["load it into systemd"]

    def planned(self, spec: Spec) -> tuple[ResourceOutcome, ResourcePlan | None]:
        result: ResourceOutcome = {"id": spec["id"], "result": "ok"}
        try:
            plan = self.plan(spec)
        except (Failed, OSError) as error:
            if getattr(error, "kind", "") == "foreign":
                raise  # before anything has changed
            return {**result, **describe_failure(error)}, None
        if plan.note:
            result["note"] = plan.note
        if plan.changes:
            result["result"], result["changes"] = "changed", plan.changes
        elif plan.unknown:
            result["result"], result["note"] = "unknown", plan.unknown
        if plan.before is not None:
            result["before"] = plan.before
        return result, plan

    def has_work(self) -> bool:
        """Whether anything differs, was left undone, or may be a restart loop."""
        different = any(result["result"] != "ok" for result in self.results.values())
        return different or bool(self.units.unsettled()) or DAEMON_RELOAD in self.run.journal.pending

    def answer(self) -> ResourcesAnswer:
        """All results, in the order of the request, and the first that failed."""
        results = [self.results[key] for key in self.run.specs]
        failed = next((result["id"] for result in results if result["result"] == "failed"), "")
        return {"results": results, "failed": self.failed or failed}
