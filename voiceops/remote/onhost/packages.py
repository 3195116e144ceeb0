"""Packages of the distribution, by apt or dnf: which are not as declared."""

from __future__ import annotations

import os

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun, first_existing
from voiceops.remote.onhost.paths import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


class PackageHandler(ResourceHandler):
    """Packages by apt or dnf, whichever the host has."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        apt = bool(first_existing("/usr/bin/apt-get"))
        if not apt and not first_existing("/usr/bin/dnf"):
            raise Failed("the host has neither apt nor dnf")
        wrong = self._wrong(spec, run, apt)
        # Asked now: once this step has begun, the journal names it too.
        resumed = was_cut(spec, run)
        plan.data.update(apt=apt, wrong=wrong, resumed=resumed)
        plan.changes = [f"{'install' if spec['present'] else 'remove'} {name}" for name in wrong]
        if not spec["daemons"] and resumed:
            plan.changes.append("switch off the daemons that a cut run installed")
        return plan

    def _wrong(self, spec: Spec, run: ResourceRun, apt: bool) -> list[str]:
        """Names that are not as desired. What is half installed is neither there nor gone."""
        names, present = spec["names"], spec["present"]
        if apt:
            form = "".join(f"{name} ${{db:Status-Status}}\n" for name in ("${Package}", "${binary:Package}"))
            lines = run.child("dpkg-query", "-W", "-f", form, *names, errors=False).output.splitlines()
            states = dict(line.rpartition(" ")[::2] for line in lines)
            there = {
                name
                for name, state in states.items()
                if (state == "installed" if present else state not in ("not-installed", "config-files"))
            }
        else:
            form = "%{NAME}\n%{NAME}.%{ARCH}\n"
            there = set(run.child("rpm", "-q", "--qf", form, *names, errors=False).output.splitlines())
        return [name for name in names if (name in there) != present]


def daemons_note(run: ResourceRun) -> str:
    return os.path.join(run.folder, "daemons")


def was_cut(spec: Spec, run: ResourceRun) -> bool:
    """Whether a run died in this very step: only then a note counts that is there already."""
    return spec["id"] in run.journal.interrupted and stat_of(daemons_note(run)) is not None
