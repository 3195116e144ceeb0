"""Directories with exactly the declared files: releases."""

from __future__ import annotations

import os
import stat

from voiceops.remote.onhost.access import keep_labels, label_by_policy, plan_access, set_access
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.disk import no_space, remove_quietly, sync_path
from voiceops.remote.onhost.files import has_same_content
from voiceops.remote.onhost.host import ResourceHandler, ResourcePlan, ResourceRun
from voiceops.remote.onhost.paths import pinned, remove_all, stat_of, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


class TreeHandler(ResourceHandler):
    """A folder with exactly these files, complete or absent: a release.

    It is filled beside its place and renamed; a later difference is fixed file by file,
    because a running program has the folder open.
    """

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        plan = ResourcePlan()
        path = spec["path"]
        found = stat_of(path)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise Failed(f"{path} exists and is no directory")
        present = _files_below(path) if found is not None else set()
        wanted = {file["path"]: file for file in spec["files"]}
        plan.data.update(found=found, place=[], access=[])
        for name, file in wanted.items():
            full = os.path.join(path, name)
            is_now = os.lstat(full) if name in present else None
            if is_now is None or not has_same_content(full, is_now, file, run):
                plan.changes.append(f"{'content' if name in present else 'create'} {name}")
                plan.blobs.append((file["sha256"], file["size"]))
                plan.data["place"].append(file)
            elif self._differs(is_now, {**spec, "mode": file["mode"]}, run, name, plan):
                plan.data["access"].append((name, file["mode"]))
        for name in self._folders(spec):
            is_now = stat_of(os.path.join(path, name))
            access = {"mode": 0o755, **spec}
            if is_now and self._differs(is_now, access, run, name, plan):
                plan.data["access"].append((name, access["mode"]))
        plan.data["extra"] = sorted(name for name in present - set(wanted) if not _compiled(name))
        plan.changes += [f"remove {name}" for name in plan.data["extra"]]
        if found is None and not wanted:
            plan.changes.append("create")
        plan_access(spec, run, found, plan)
        return plan

    def _differs(
        self, found: os.stat_result, wanted: Spec, run: ResourceRun, name: str, plan: ResourcePlan
    ) -> bool:
        access = ResourcePlan()
        plan_access(wanted, run, found, access)
        plan.changes += [f"{name}: {change}" for change in access.changes]
        return bool(access.changes)

    def _folders(self, spec: Spec) -> list[str]:
        """The folders in the tree, outer ones first."""
        found = set()
        for file in spec["files"]:
            name = os.path.dirname(file["path"])
            while name:
                found.add(name)
                name = os.path.dirname(name)
        return sorted(found)

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        path = spec["path"]
        fresh = temporary(path)
        remove_all(fresh)
        if plan.data["found"] is not None:
            self._fix(path, spec, run, plan)
            return
        try:
            with pinned(fresh, make=True) as at:
                os.mkdir(at, 0o700)
            self._make_folders(fresh, spec, run)
            for file in spec["files"]:
                self._place(fresh, file, spec, run)
            with pinned(path) as at:
                set_access(temporary(at), spec, run, None, 0o755)
                os.replace(temporary(at), at)
                sync_path(os.path.dirname(at))
            label_by_policy(path, run)
        except OSError as error:
            raise no_space(error, path) from None
        finally:
            remove_all(fresh)

    def _fix(self, path: str, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        for name in plan.data["extra"]:
            remove_all(os.path.join(path, name))
        self._make_folders(path, spec, run)
        for file in plan.data["place"]:
            full = os.path.join(path, file["path"])
            new = stat_of(full) is None
            self._place(path, file, spec, run)
            if new:
                label_by_policy(full, run)
        for name, mode in plan.data["access"]:
            with pinned(os.path.join(path, name)) as at:
                set_access(at, {**spec, "mode": mode}, run, None, mode)
        with pinned(path) as at:
            set_access(at, spec, run, plan.data["found"], 0o755)

    def _make_folders(self, root: str, spec: Spec, run: ResourceRun) -> None:
        # One by one: parents made on the way would be without owner and mode.
        for name in self._folders(spec):
            folder = os.path.join(root, name)
            if stat_of(folder) is None:
                with pinned(folder) as at:
                    os.mkdir(at, 0o700)
                    set_access(at, spec, run, None, 0o755)

    def _place(self, root: str, file: Spec, spec: Spec, run: ResourceRun) -> None:
        with pinned(os.path.join(root, file["path"])) as at:
            fresh = temporary(at)
            remove_quietly(fresh)
            run.blobs.place(file["sha256"], file["size"], fresh)
            if os.path.lexists(at):
                keep_labels(at, fresh)
            set_access(fresh, {**spec, "mode": file["mode"]}, run, None, 0o644)
            sync_path(fresh)
            os.replace(fresh, at)


def _compiled(name: str) -> bool:
    return name.endswith(".pyc") and "__pycache__" in name


def _files_below(path: str) -> set[str]:
    found = set()
    for folder, _, names in os.walk(path):
        for name in names:
            found.add(os.path.relpath(os.path.join(folder, name), path))
    return found
