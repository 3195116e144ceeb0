"""Owner, group, mode and security labels of files."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.host import ResourcePlan, ResourceRun, first_existing
from voiceops.remote.onhost.paths import restrict_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec


def owner_id(name: str, run: ResourceRun, *, group: bool) -> int | None:
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


def plan_access(spec: Spec, run: ResourceRun, found: os.stat_result | None, plan: ResourcePlan) -> None:
    """Compare owner, group and mode; what the spec leaves open stays as it is."""
    for key, group in (("owner", False), ("group", True)):
        name = spec.get(key)
        if name is None:
            continue
        number = owner_id(name, run, group=group)
        if found is not None:
            is_now = found.st_gid if group else found.st_uid
            if number != is_now:
                plan.changes.append(f"{key} {_name(is_now, group=group)} -> {name}")
    if spec.get("mode") is not None and found is not None:
        is_now = stat.S_IMODE(found.st_mode)
        if is_now != spec["mode"]:
            plan.changes.append(f"mode {is_now:04o} -> {spec['mode']:04o}")


def set_access(path: str, spec: Spec, run: ResourceRun, found: os.stat_result | None, mode: int) -> None:
    """Never through a link. Owner first: chown clears the set-id bits that chmod may set."""
    uid = owner_id(spec["owner"], run, group=False) if spec.get("owner") is not None else None
    gid = owner_id(spec["group"], run, group=True) if spec.get("group") is not None else None
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


def set_access_below(path: str, spec: Spec, run: ResourceRun) -> None:
    """Owner, group and mode for a folder and all that is in it."""
    uid, gid = owner_id(spec["owner"], run, group=False), owner_id(spec["group"], run, group=True)
    assert uid is not None
    assert gid is not None
    restrict_below(path, uid, gid, spec["mode"])


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


def label_by_policy(path: str, run: ResourceRun) -> None:
    """For what is new, at its final place: the policy goes by paths, and an upload keeps its label when it moves."""
    restorecon = first_existing("/usr/sbin/restorecon", "/sbin/restorecon")
    if restorecon and os.path.exists("/sys/fs/selinux/enforce"):
        run.child(restorecon, "-R", path)
