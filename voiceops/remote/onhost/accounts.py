"""Users and groups."""

from __future__ import annotations

import grp
import pwd

from voiceops.remote.onhost.base import expect
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


def _group(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


class GroupHandler(ResourceHandler):
    """A group; one that exists under another number is left alone and reported."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        found = _group(spec["name"])
        if found is None:
            plan.changes.append("create")
            run.planned_users.add(spec["name"])
        elif spec.get("gid") is not None and found.gr_gid != spec["gid"]:
            plan.changes.append(f"gid {found.gr_gid} -> {spec['gid']}")
        plan.data["found"] = found
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        argv = ["groupadd" if plan.data["found"] is None else "groupmod"]
        if spec.get("gid") is not None:
            argv += ["--gid", str(spec["gid"])]
        if plan.data["found"] is None and spec.get("system"):
            argv.append("--system")
        expect(run.child(*argv, spec["name"]), argv[0])


class UserHandler(ResourceHandler):
    """A user. Its groups are at least those named: others that it has stay."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        try:
            found = pwd.getpwnam(spec["name"])
        except KeyError:
            plan.changes.append("create")
            run.planned_users.update((spec["name"], spec.get("group") or spec["name"]))
            plan.data["found"] = None
            return plan
        plan.data["found"] = found
        for key, is_now in (("uid", found.pw_uid), ("home", found.pw_dir), ("shell", found.pw_shell)):
            if spec.get(key) is not None and spec[key] != is_now:
                plan.changes.append(f"{key} {is_now} -> {spec[key]}")
        main = _group(spec["group"]) if spec.get("group") else None
        if spec.get("group") and (main is None or main.gr_gid != found.pw_gid):
            plan.changes.append(f"group -> {spec['group']}")
        plan.data["groups"] = [name for name in spec.get("groups", ()) if not _is_member(found, name)]
        plan.changes += [f"join {name}" for name in plan.data["groups"]]
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        found = plan.data["found"]
        argv = ["useradd"] if found is None else ["usermod"]
        for key, flag in (("uid", "--uid"), ("home", "--home-dir"), ("shell", "--shell"), ("group", "--gid")):
            if spec.get(key) is not None:
                argv += ["--home" if flag == "--home-dir" and found else flag, str(spec[key])]
        if found is None:
            argv += self._creation(spec)
        elif plan.data["groups"]:
            argv += ["--append", "--groups", ",".join(plan.data["groups"])]
        expect(run.child(*argv, spec["name"]), argv[0])

    def _creation(self, spec: Spec) -> list[str]:
        argv = ["--system"] if spec.get("system") else []
        argv.append("--create-home" if spec.get("create_home") else "--no-create-home")
        if not spec.get("group"):
            # A group of that name may be there already, and then useradd alone refuses.
            argv += ["--gid", spec["name"]] if _group(spec["name"]) else ["--user-group"]
        if spec.get("groups"):
            argv += ["--groups", ",".join(spec["groups"])]
        return argv


def _is_member(user: pwd.struct_passwd, group: str) -> bool:
    found = _group(group)
    return found is not None and (user.pw_name in found.gr_mem or user.pw_gid == found.gr_gid)
