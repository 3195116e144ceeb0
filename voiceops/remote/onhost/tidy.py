"""Remove releases, environments and units that nobody needs any more."""

from __future__ import annotations

import glob
import grp
import os
import re
import stat

from voiceops.remote.onhost.ledger import release_history
from voiceops.remote.onhost.paths import HALF, remove_all, restrict_below
from voiceops.remote.onhost.unit_state import instance_of, shown_units, systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import RecordReleases, TidyOptions

ENVIRONMENT = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{12})?")
"""A Python environment, or the link to it."""


def tidy_releases(request: RecordReleases, tidy: TidyOptions) -> list[str]:
    """Remove releases beyond those to keep, their environments, and units that are no longer declared.

    Only what the ledger has recorded, or what carries our mark: whatever else lies there is not ours.
    """
    history = release_history(request["state_dir"])
    removed = remove_undeclared(request["project"], tidy["units"])
    keep = releases_in_use(request)
    environments = environment_files(request["etc"], request["project"])
    ours = {entry["release"] for entry in history} | set(environments.values())
    by_service: dict[str, list[str]] = {}
    for entry in history:
        order = by_service.setdefault(entry["service"], [])
        if entry["release"] in order:
            order.remove(entry["release"])
        if entry["result"] == "ok":
            order.append(entry["release"])
    for order in by_service.values():
        keep |= set(order[-tidy["keep"] :])
    folder = request["opt"] + "/releases"
    for name in os.listdir(folder):
        if name.partition(".")[0] in ours - keep or name.endswith(HALF):
            path = os.path.join(folder, name)
            remove_all(path)
            removed.append(path)
    for path, release in environments.items():
        if release not in keep:
            os.unlink(path)
            removed.append(path)
    removed += remove_unused_venvs(request["opt"], tidy["venv"])
    restrict_to_services(request["opt"], request["group"], ours)
    return removed


def environment_files(etc: str, project: str) -> dict[str, str]:
    """The environment files that a deploy wrote, by their mark, with the release that each belongs to."""
    mark = re.compile(rf'^VOICEOPS_SERVICE="?{re.escape(project)}/', re.MULTILINE)
    found = {}
    for path in glob.glob(etc + "/*/*.env"):
        try:
            with open(path, errors="replace") as file:
                if mark.search(file.read()):
                    found[path] = os.path.basename(path).partition(".")[0]
        except OSError:
            continue  # a link to nothing, or a folder: not what a deploy writes
    return found


def restrict_to_services(opt: str, group: str, ours: set[str]) -> None:
    """Releases and environments are for root and the services alone: an older voiceops left them to root's umask."""
    for kind in ("releases", "venvs"):
        folder = f"{opt}/{kind}"
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            known = name in ours if kind == "releases" else ENVIRONMENT.fullmatch(name)
            if not known or os.path.islink(path):
                continue
            found, gid = os.lstat(path), grp.getgrnam(group).gr_gid
            if found.st_gid != gid or stat.S_IMODE(found.st_mode) != 0o750:
                restrict_below(path, -1, gid, 0o750)


def releases_in_use(request: RecordReleases) -> set[str]:
    """The current releases, and those of instances that still run or drain."""
    found = {one["release"] for one in request["services"].values()}
    for unit in shown_units("Id,ActiveState", f"{request['project']}-*@*.service"):
        if unit.get("ActiveState") not in (None, "inactive", "failed"):
            found.add(instance_of(unit["Id"]).partition(".")[0])
    return found


def remove_unused_venvs(opt: str, current: str) -> list[str]:
    folder = opt + "/venvs"
    links = glob.glob(opt + "/releases/*/venv")
    used = {current, *(os.path.basename(os.readlink(link)) for link in links)}
    removed = []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        real = os.readlink(path) if os.path.islink(path) else name
        if real not in used and ENVIRONMENT.fullmatch(name):
            remove_all(path)
            removed.append(path)
    return removed


def remove_undeclared(project: str, units: list[str]) -> list[str]:
    """Units of this project that nobody declares any more, stopped already: they must not start with the host."""
    removed = []
    for path in glob.glob(f"/etc/systemd/system/{project}-*"):
        if not path.endswith((".service", ".timer", ".socket")) or os.path.basename(path) in units:
            continue
        service = path[: -len(".timer")] + ".service" if path.endswith(".timer") else path
        if project_of_unit(service) != project:
            continue
        name = os.path.basename(path)
        systemctl("disable", "--quiet", "--now", name)
        removed.append(path)
    for path in removed:
        os.unlink(path)
    if removed:
        # What has failed stays listed without a file; a pattern also finds none, or the instances of a template.
        names = [os.path.basename(path).replace("@.", "@*.") for path in removed]
        systemctl("reset-failed", *names)
        systemctl("daemon-reload")
    return removed


def project_of_unit(path: str) -> str:
    """The project that a unit file belongs to, by its mark: of ``a`` and ``a-b`` none touches the other's."""
    try:
        with open(path) as file:
            found = re.search(r"^Environment=VOICEOPS_UNIT=([^/\s]+)/", file.read(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1) if found else ""
