"""Python environments: whether they are complete."""

from __future__ import annotations

import os

from voiceops.remote.onhost.access import plan_access
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun
from voiceops.remote.onhost.paths import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec

STAMP = ".voiceops-complete"
"""The last file of an environment to be written: without it, a folder is half made."""


class VenvHandler(ResourceHandler):
    """A Python environment, complete or absent.

    ``path`` is a link to a folder named after the content. Scripts in an environment know
    their own place, so it is built where it stays, stamped last, and then the link moves.
    A folder without its stamp is half made and is built anew.
    """

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        real = f"{spec['path']}-{spec['key']}"
        complete = os.path.exists(os.path.join(real, STAMP)) and os.path.exists(
            os.path.join(real, "bin/python")
        )
        plan.data.update(real=real, complete=complete, lacking=[])
        if not complete:
            text = spec["requirements"]
            if text["size"]:
                plan.blobs.append((text["sha256"], text["size"]))
            for file in spec.get("files", ()):
                found = stat_of(os.path.join(spec["wheels"], file["name"]))
                if found is None or run.hashes.sha256(
                    os.path.join(spec["wheels"], file["name"]), found
                ) != str(file["sha256"]):
                    plan.blobs.append((file["sha256"], file["size"]))
                    plan.data["lacking"].append(file)
            plan.changes.append("rebuild what was left half made" if stat_of(real) else "build")
        else:
            plan_access(spec, run, stat_of(real), plan)
        found = stat_of(spec["path"])
        if found is not None and not os.path.islink(spec["path"]):
            raise Failed(f"{spec['path']} exists and is no link to an environment")
        if found is None or os.readlink(spec["path"]) != os.path.basename(real):
            plan.changes.append(f"link -> {os.path.basename(real)}")
        return plan
