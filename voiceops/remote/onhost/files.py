"""Files, directories, symlinks, and what must not be there."""

from __future__ import annotations

import os
import stat

from voiceops.remote.onhost.access import keep_labels, label_by_policy, owner_id, plan_access, set_access
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.disk import no_space, remove_quietly, sync_path
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun, first_existing
from voiceops.remote.onhost.paths import pinned, remove_all, stat_of, switch_link, temporary
from voiceops.remote.onhost.state_folder import MARK, has_content, refuse_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


DIFF_BYTES = 64 * 1024


def _text(path: str, size: int) -> str | None:
    if size > DIFF_BYTES:
        return None
    with pinned(path) as at, open(os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(DIFF_BYTES)
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def has_same_content(path: str, found: os.stat_result, wanted: Spec, run: ResourceRun) -> bool:
    if not stat.S_ISREG(found.st_mode) or found.st_size != wanted["size"]:
        return False
    with pinned(path) as at:
        return run.hashes.sha256(path, found, at) == str(wanted["sha256"])


class FileHandler(ResourceHandler):
    """A regular file with given content: written beside its place, synced, renamed."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        path = spec["path"]
        found = stat_of(path)
        plan.data = {"found": found, "content": False}
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise Failed(f"{path} exists and is no regular file")
        if found is None:
            plan.changes.append("create")
        elif not has_same_content(path, found, spec, run):
            plan.changes.append("content")
        if plan.changes:
            plan.data["content"] = True
            run.blobs.expect_room(os.path.dirname(path), spec["size"])
            plan.blobs.append((spec["sha256"], spec["size"]))
            if run.diff and not spec.get("secret"):
                plan.before = "" if found is None else _text(path, found.st_size)
        plan_access(spec, run, found, plan)
        wanted = spec.get("expects_any")
        if wanted and not first_existing(*wanted):
            plan.note = spec["expects_note"]
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        path, found = spec["path"], plan.data["found"]
        try:
            with pinned(path) as at:
                if plan.data["content"]:
                    self._replace(spec, run, found, at)
                else:
                    set_access(at, spec, run, found, 0o644)
        except (FileNotFoundError, NotADirectoryError):
            raise Failed(f"the folder {os.path.dirname(path)} is missing") from None

    def _replace(self, spec: Spec, run: ResourceRun, found: os.stat_result | None, at: str) -> None:
        fresh, folder = temporary(at), os.path.dirname(at)
        remove_quietly(fresh)
        try:
            run.blobs.place(spec["sha256"], spec["size"], fresh)
            if found is not None:
                keep_labels(at, fresh)
            set_access(fresh, spec, run, found, 0o600 if spec.get("secret") else 0o644)
            self._validate(spec, run, temporary(spec["path"]))
            sync_path(fresh)
            os.replace(fresh, at)
            if found is None:
                label_by_policy(spec["path"], run)
            sync_path(folder)
        except OSError as error:
            raise no_space(error, at) from None
        finally:
            remove_quietly(fresh)

    def _validate(self, spec: Spec, run: ResourceRun, fresh: str) -> None:
        if spec.get("validate"):
            argv = [part.replace("{file}", fresh) for part in spec["validate"]]
            child = run.child(*argv)
            if child.code != 0:
                raise Failed(f"{argv[0]} refuses the new content", child.tail())


class DirectoryHandler(ResourceHandler):
    """A directory; its parents are made too, as root with mode 0755."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        found = stat_of(spec["path"])
        if found is not None and stat.S_ISLNK(found.st_mode):
            # /var/run and the like: the directory behind it is meant, where root made the link.
            found = stat_of(spec["path"] + "/.") or found
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise Failed(f"{spec['path']} exists and is no directory")
        plan.data["found"] = found
        if found is None:
            plan.changes.append("create")
        elif spec.get("marks") and not first_existing(os.path.join(spec["path"], MARK), *spec["marks"]):
            owner = owner_id(spec["owner"], run, group=False)
            refuse_foreign(spec["path"], owner == found.st_uid and not has_content(spec["path"]))
        plan_access(spec, run, found, plan)
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        path = spec["path"]
        if plan.data["found"] is None:
            with pinned(path, make=True) as at:
                # Closed until owner and mode are right: nobody gets in between.
                os.mkdir(at, 0o700)
        with pinned(path + "/.") as at:
            set_access(at, spec, run, plan.data["found"], 0o755)
        if plan.data["found"] is None:
            label_by_policy(path, run)


class SymlinkHandler(ResourceHandler):
    """A symlink, switched by rename: at no moment it is missing."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        found = stat_of(spec["path"])
        if found is None:
            plan.changes.append(f"create -> {spec['target']}")
        elif not stat.S_ISLNK(found.st_mode):
            raise Failed(f"{spec['path']} exists and is no symlink")
        else:
            with pinned(spec["path"]) as at:
                is_now = os.readlink(at)
            if is_now != spec["target"]:
                plan.changes.append(f"{is_now} -> {spec['target']}")
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        switch_link(spec["path"], spec["target"])


class AbsentHandler(ResourceHandler):
    """Nothing at a path: a file, a link, or a directory with what is in it."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        if stat_of(spec["path"]) is not None:
            plan.changes.append("remove")
        return plan

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        remove_all(spec["path"])
