"""Files, directories, symlinks, trees, and what must not be there."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

from voiceops.remote.onhost.base import Failed, Plan
from voiceops.remote.onhost.blobs import expect_space, no_space, remove_quietly
from voiceops.remote.onhost.host import Handler, PayloadRun, first_existing
from voiceops.remote.onhost.journal import sync_path
from voiceops.remote.onhost.paths import HALF, look, pinned, remove_all, switch_link, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec

DIFF_BYTES = 64 * 1024
UNIT_FOLDERS = (
    "/etc/systemd/system/",
    "/usr/lib/systemd/system/",
    "/lib/systemd/system/",
    "/run/systemd/system/",
)
DAEMON_RELOAD = "systemd:daemon-reload"
STAMP = ".voiceops-complete"
"""The last file of a tree or venv to be written: without it, a folder is half made."""


MARK = ".voiceops"
"""In a folder that we made, or may have."""


def has_content(path: str) -> bool:
    """Whether anything but a killed run's litter is in a folder; each disk brings a ``lost+found``."""
    return any(name != "lost+found" and not name.endswith(HALF) for name in os.listdir(path))


def refuse_foreign(path: str, ours: bool) -> None:
    """Fail where somebody else made the folder; on a full disk our mark may be what is missing."""
    if not ours:
        expect_space(path, 4096)
        raise Failed(f"{path} is there already, and voiceops did not make it", [path], "foreign")


def _number(name: str, run: PayloadRun, *, group: bool) -> int | None:
    """uid or gid; None while surveying for one that this run is going to create."""
    try:
        return grp.getgrnam(name).gr_gid if group else pwd.getpwnam(name).pw_uid
    except KeyError:
        if run.guessing and name in run.planned_users:
            return None
        if name.isdigit():
            return int(name)
        raise Failed(f"no {'group' if group else 'user'} {name!r} on the host") from None


def _name(number: int, *, group: bool) -> str:
    try:
        return grp.getgrgid(number).gr_name if group else pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def plan_access(spec: Spec, run: PayloadRun, found: os.stat_result | None, plan: Plan) -> None:
    """Compare owner, group and mode; what the spec leaves open stays as it is."""
    for key, group in (("owner", False), ("group", True)):
        name = spec.get(key)
        if name is None:
            continue
        number = _number(name, run, group=group)
        if found is not None:
            is_now = found.st_gid if group else found.st_uid
            if number != is_now:
                plan.changes.append(f"{key} {_name(is_now, group=group)} -> {name}")
    if spec.get("mode") is not None and found is not None:
        is_now = stat.S_IMODE(found.st_mode)
        if is_now != spec["mode"]:
            plan.changes.append(f"mode {is_now:04o} -> {spec['mode']:04o}")


def set_access(path: str, spec: Spec, run: PayloadRun, found: os.stat_result | None, mode: int) -> None:
    """Never through a link. Owner first: chown clears the set-id bits that chmod may set."""
    uid = _number(spec["owner"], run, group=False) if spec.get("owner") is not None else None
    gid = _number(spec["group"], run, group=True) if spec.get("group") is not None else None
    if found is not None:
        uid = found.st_uid if uid is None else uid
        gid = found.st_gid if gid is None else gid
    if spec.get("mode") is not None:
        mode = spec["mode"]
    elif found is not None:
        mode = stat.S_IMODE(found.st_mode)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchown(fd, -1 if uid is None else uid, -1 if gid is None else gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def set_access_below(path: str, spec: Spec, run: PayloadRun) -> None:
    """Owner, group and mode for a folder and all that is in it; files that are no programs lose the mode's x bits.

    The folder itself comes last: as long as it differs, the walk is not over.
    """
    uid, gid = _number(spec["owner"], run, group=False), _number(spec["group"], run, group=True)
    assert uid is not None
    assert gid is not None
    for folder, _, names in os.walk(path, topdown=False):
        for full in (*(os.path.join(folder, name) for name in names), folder):
            found = os.lstat(full)
            if not stat.S_ISLNK(found.st_mode):
                os.chown(full, uid, gid)
                os.chmod(full, spec["mode"] if found.st_mode & 0o40100 else spec["mode"] & 0o666)


ACL = "system.posix_acl_access"
BOUND_TO_CONTENT = ("security.capability", "security.ima", "security.evm")


def keep_labels(source: str, target: str) -> None:
    """Carry SELinux label and ACLs over from the file that is replaced. Before the mode: an ACL sets it too."""
    names = os.listxattr(source, follow_symlinks=False)
    if ACL not in names and ACL in os.listxattr(target):
        os.removexattr(target, ACL)  # the folder gives it to what is new, and this is not
    for name in names:
        if name in BOUND_TO_CONTENT:
            continue  # as the kernel has it for a file that is written to
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                raise


def label_by_policy(path: str, run: PayloadRun) -> None:
    """For what is new, at its final place: the policy goes by paths, and an upload keeps its label when it moves."""
    restorecon = first_existing("/usr/sbin/restorecon", "/sbin/restorecon")
    if restorecon and os.path.exists("/sys/fs/selinux/enforce"):
        run.child(restorecon, "-R", path)


def _text(path: str, size: int) -> str | None:
    if size > DIFF_BYTES:
        return None
    with pinned(path) as at, open(os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(DIFF_BYTES)
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _same_content(path: str, found: os.stat_result, wanted: Spec, run: PayloadRun) -> bool:
    if not stat.S_ISREG(found.st_mode) or found.st_size != wanted["size"]:
        return False
    with pinned(path) as at:
        return run.hashes.sha256(path, found, at) == str(wanted["sha256"])


class FileHandler(Handler):
    """A regular file with given content: written beside its place, synced, renamed."""

    def plan(self, spec: Spec, run: PayloadRun) -> Plan:
        plan = Plan()
        path = spec["path"]
        found = look(path)
        plan.data = {"found": found, "content": False}
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise Failed(f"{path} exists and is no regular file")
        if found is None:
            plan.changes.append("create")
        elif not _same_content(path, found, spec, run):
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

    def apply(self, spec: Spec, run: PayloadRun, plan: Plan) -> None:
        path, found = spec["path"], plan.data["found"]
        try:
            with pinned(path) as at:
                if plan.data["content"]:
                    self._replace(spec, run, found, at)
                else:
                    set_access(at, spec, run, found, 0o644)
        except (FileNotFoundError, NotADirectoryError):
            raise Failed(f"the folder {os.path.dirname(path)} is missing") from None

    def _replace(self, spec: Spec, run: PayloadRun, found: os.stat_result | None, at: str) -> None:
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

    def _validate(self, spec: Spec, run: PayloadRun, fresh: str) -> None:
        if spec.get("validate"):
            argv = [part.replace("{file}", fresh) for part in spec["validate"]]
            child = run.child(*argv)
            if child.code != 0:
                raise Failed(f"{argv[0]} refuses the new content", child.tail())


class DirectoryHandler(Handler):
    """A directory; its parents are made too, as root with mode 0755."""

    def plan(self, spec: Spec, run: PayloadRun) -> Plan:
        plan = Plan()
        found = look(spec["path"])
        if found is not None and stat.S_ISLNK(found.st_mode):
            # /var/run and the like: the directory behind it is meant, where root made the link.
            found = look(spec["path"] + "/.") or found
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise Failed(f"{spec['path']} exists and is no directory")
        plan.data["found"] = found
        if found is None:
            plan.changes.append("create")
        elif spec.get("marks") and not first_existing(os.path.join(spec["path"], MARK), *spec["marks"]):
            owner = _number(spec["owner"], run, group=False)
            refuse_foreign(spec["path"], owner == found.st_uid and not has_content(spec["path"]))
        plan_access(spec, run, found, plan)
        return plan

    def apply(self, spec: Spec, run: PayloadRun, plan: Plan) -> None:
        path = spec["path"]
        if plan.data["found"] is None:
            with pinned(path, make=True) as at:
                # Closed until owner and mode are right: nobody gets in between.
                os.mkdir(at, 0o700)
        with pinned(path + "/.") as at:
            set_access(at, spec, run, plan.data["found"], 0o755)
        if plan.data["found"] is None:
            label_by_policy(path, run)


class SymlinkHandler(Handler):
    """A symlink, switched by rename: at no moment it is missing."""

    def plan(self, spec: Spec, run: PayloadRun) -> Plan:
        plan = Plan()
        found = look(spec["path"])
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

    def apply(self, spec: Spec, run: PayloadRun, plan: Plan) -> None:
        switch_link(spec["path"], spec["target"])


class AbsentHandler(Handler):
    """Nothing at a path: a file, a link, or a directory with what is in it."""

    def plan(self, spec: Spec, run: PayloadRun) -> Plan:
        plan = Plan()
        if look(spec["path"]) is not None:
            plan.changes.append("remove")
        return plan

    def apply(self, spec: Spec, run: PayloadRun, plan: Plan) -> None:
        remove_all(spec["path"])


class TreeHandler(Handler):
    """A folder with exactly these files, complete or absent: a release.

    It is filled beside its place and renamed; a later difference is fixed file by file,
    because a running program has the folder open.
    """

    def plan(self, spec: Spec, run: PayloadRun) -> Plan:
        plan = Plan()
        path = spec["path"]
        found = look(path)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise Failed(f"{path} exists and is no directory")
        present = _files_below(path) if found is not None else set()
        wanted = {file["path"]: file for file in spec["files"]}
        plan.data.update(found=found, place=[], access=[])
        for name, file in wanted.items():
            full = os.path.join(path, name)
            is_now = os.lstat(full) if name in present else None
            if is_now is None or not _same_content(full, is_now, file, run):
                plan.changes.append(f"{'content' if name in present else 'create'} {name}")
                plan.blobs.append((file["sha256"], file["size"]))
                plan.data["place"].append(file)
            elif self._differs(is_now, {**spec, "mode": file["mode"]}, run, name, plan):
                plan.data["access"].append((name, file["mode"]))
        for name in self._folders(spec):
            is_now = look(os.path.join(path, name))
            access = {"mode": 0o755, **spec}
            if is_now and self._differs(is_now, access, run, name, plan):
                plan.data["access"].append((name, access["mode"]))
        plan.data["extra"] = sorted(name for name in present - set(wanted) if not _compiled(name))
        plan.changes += [f"remove {name}" for name in plan.data["extra"]]
        if found is None and not wanted:
            plan.changes.append("create")
        plan_access(spec, run, found, plan)
        return plan

    def _differs(self, found: os.stat_result, wanted: Spec, run: PayloadRun, name: str, plan: Plan) -> bool:
        access = Plan()
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

    def apply(self, spec: Spec, run: PayloadRun, plan: Plan) -> None:
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

    def _fix(self, path: str, spec: Spec, run: PayloadRun, plan: Plan) -> None:
        for name in plan.data["extra"]:
            remove_all(os.path.join(path, name))
        self._make_folders(path, spec, run)
        for file in plan.data["place"]:
            full = os.path.join(path, file["path"])
            new = look(full) is None
            self._place(path, file, spec, run)
            if new:
                label_by_policy(full, run)
        for name, mode in plan.data["access"]:
            with pinned(os.path.join(path, name)) as at:
                set_access(at, {**spec, "mode": mode}, run, None, mode)
        with pinned(path) as at:
            set_access(at, spec, run, plan.data["found"], 0o755)

    def _make_folders(self, root: str, spec: Spec, run: PayloadRun) -> None:
        # One by one: parents made on the way would be without owner and mode.
        for name in self._folders(spec):
            folder = os.path.join(root, name)
            if look(folder) is None:
                with pinned(folder) as at:
                    os.mkdir(at, 0o700)
                    set_access(at, spec, run, None, 0o755)

    def _place(self, root: str, file: Spec, spec: Spec, run: PayloadRun) -> None:
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
