"""Runs on a host as ``python3 -ISc THIS REQUEST``: which releases were deployed, which one serves, what may go.

Standard library only, Python 3.9; as root. REQUEST and the answer are JSON.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import re
import stat
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


HALF_WRITTEN = ".voiceops-tmp"
"""The end of a name that a killed run left behind."""
ENVIRONMENT = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{12})?")
"""A Python environment, or the link to it."""


def current(request: dict[str, Any]) -> dict[str, Any]:
    """What the last deploy left in service; with ``unproved``, why nobody has proved that it answers calls."""
    try:
        with open(request["state"] + "/current.json") as file:
            found = json.load(file)
        named = found["services"].items()
        services = {
            name: {key: one.get(key, "") for key in ("release", "digest")}
            for name, one in named
            if isinstance(one, dict)
        }
        return {**found, "services": services}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def history(request: dict[str, Any]) -> list[dict[str, Any]]:
    """All entries, oldest first, with fields that another version wrote. A line that a crash cut is left out."""
    entries = []
    try:
        with open(request["state"] + "/releases.jsonl") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    if all(isinstance(entry[key], str) for key in ("service", "release", "result")):
                        entries.append(entry)
                except (ValueError, KeyError, TypeError):
                    continue
    except FileNotFoundError:
        pass
    return entries


def bad(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of the releases that are asked for, the entries of those whose last word is bad."""
    last = {entry["release"]: entry for entry in history(request) if entry["release"] in request["releases"]}
    return {release: entry for release, entry in last.items() if entry["result"] == "bad"}


def write(path: str, text: str) -> None:
    """Whole or not at all; an ``OSError`` names the path."""
    try:
        with open(path + ".tmp", "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".tmp", path)
    except OSError as error:
        if os.path.exists(path + ".tmp"):
            os.unlink(path + ".tmp")
        raise OSError(error.errno, error.strerror, path) from None


def append(request: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    kept = history(request)[-500:] + [dict(entry, at=round(time.time(), 3)) for entry in entries]
    write(request["state"] + "/releases.jsonl", "".join(json.dumps(entry) + "\n" for entry in kept))


def record(request: dict[str, Any]) -> dict[str, Any]:
    """Services that run become the current ones; then what nobody needs goes.

    With ``unproved``, the cause for which the call failed, no release of theirs counts as good.
    """
    known = current(request)
    before = {} if known.get("unproved") else known.get("services", {})
    wanted = request["services"]
    unproved = request.get("unproved", "")
    news = [
        {
            "service": name,
            "release": one["release"],
            "result": "ok",
            "by": request["by"],
            "action": request["action"],
        }
        for name, one in wanted.items()
        if one["release"] and before.get(name, {}).get("release") != one["release"] and not unproved
    ]
    if news:
        append(request, news)
    os.makedirs(request["opt"] + "/current", exist_ok=True)
    os.chmod(request["opt"] + "/current", 0o755)  # an older voiceops left it to root's umask
    for name, one in wanted.items():
        if one["release"]:
            link(f"{request['opt']}/current/{name}", f"../releases/{one['release']}")
    document = {"services": wanted, "at": time.time(), **({"unproved": unproved} if unproved else {})}
    write(request["state"] + "/current.json", json.dumps(document))
    return {"removed": tidy(request) if request.get("tidy", True) else []}


def link(path: str, target: str) -> None:
    if os.path.islink(path) and os.readlink(path) == target:
        return
    if os.path.islink(path + ".tmp"):
        os.unlink(path + ".tmp")
    os.symlink(target, path + ".tmp")
    os.replace(path + ".tmp", path)


def remove(path: str) -> None:
    import shutil  # with its compressors the dearest import of a look that removes nothing

    os.unlink(path) if os.path.islink(path) else shutil.rmtree(path)


def links(request: dict[str, Any]) -> dict[str, str]:
    """Where ``current/SERVICE`` leads."""
    found = {}
    for path in glob.glob(request["opt"] + "/current/*"):
        if os.path.islink(path):
            found[os.path.basename(path)] = os.readlink(path)
    return found


def note(request: dict[str, Any]) -> dict[str, Any]:
    """Add entries to the history."""
    append(request, request["entries"])
    return {}


def releases(request: dict[str, Any]) -> dict[str, Any]:
    """The history, what is current, and which releases are still there.

    ``will_record``: fail on a full disk now, before anything that could not be recorded then.
    """
    if request.get("will_record"):
        write(request["state"] + "/.room", " " * 65536)
        os.unlink(request["state"] + "/.room")
    folder = request["opt"] + "/releases"
    present = (
        sorted(name for name in os.listdir(folder) if not name.startswith("."))
        if os.path.isdir(folder)
        else []
    )
    return {"history": history(request), "current": current(request), "present": present}


# -- tidying -----------------------------------------------------------------


def tidy(request: dict[str, Any]) -> list[str]:
    """Remove releases beyond those to keep, their environments, and units that are no longer declared.

    Only what the ledger has recorded, or what carries our mark: whatever else lies there is not ours.
    """
    removed = undeclared(request)
    keep = in_use(request)
    environments = environment_files(request)
    ours = {entry["release"] for entry in history(request)} | set(environments.values())
    by_service: dict[str, list[str]] = {}
    for entry in history(request):
        order = by_service.setdefault(entry["service"], [])
        if entry["release"] in order:
            order.remove(entry["release"])
        if entry["result"] == "ok":
            order.append(entry["release"])
    for order in by_service.values():
        keep |= set(order[-request["keep"] :])
    folder = request["opt"] + "/releases"
    for name in os.listdir(folder):
        if name.partition(".")[0] in ours - keep or name.endswith(HALF_WRITTEN):
            path = os.path.join(folder, name)
            remove(path)
            removed.append(path)
    for path, release in environments.items():
        if release not in keep:
            os.unlink(path)
            removed.append(path)
    removed += unused_venvs(request)
    restrict(request, ours)
    return removed


def environment_files(request: dict[str, Any]) -> dict[str, str]:
    """The environment files that a deploy wrote, by their mark, with the release that each belongs to."""
    mark = re.compile(rf'^VOICEOPS_SERVICE="?{re.escape(request["project"])}/', re.MULTILINE)
    found = {}
    for path in glob.glob(request["etc"] + "/*/*.env"):
        try:
            with open(path, errors="replace") as file:
                if mark.search(file.read()):
                    found[path] = os.path.basename(path).partition(".")[0]
        except OSError:
            continue  # a link to nothing, or a folder: not what a deploy writes
    return found


def restrict(request: dict[str, Any], ours: set[str]) -> None:
    """Releases and environments are for root and the services alone: an older voiceops left them to root's umask."""
    for kind in ("releases", "venvs"):
        folder = f"{request['opt']}/{kind}"
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            known = name in ours if kind == "releases" else ENVIRONMENT.fullmatch(name)
            if not known or os.path.islink(path):
                continue
            found, gid = os.lstat(path), grp.getgrnam(request["group"]).gr_gid
            if found.st_gid != gid or stat.S_IMODE(found.st_mode) != 0o750:
                restrict_below(path, gid)


def restrict_below(path: str, gid: int) -> None:
    """The folder comes last: as long as it differs, this is not over."""
    for folder, _, names in os.walk(path, topdown=False):
        for full in (*(os.path.join(folder, name) for name in names), folder):
            mode = os.lstat(full).st_mode
            if not stat.S_ISLNK(mode):
                os.chown(full, -1, gid)
                os.chmod(full, 0o750 if stat.S_ISDIR(mode) or mode & 0o100 else 0o640)


def in_use(request: dict[str, Any]) -> set[str]:
    """The current releases, and those of instances that still run or drain."""
    found = {one["release"] for one in request["services"].values()}
    pattern = f"{request['project']}-*@*.service"
    shown = subprocess.run(
        ["systemctl", "show", "--property=Id,ActiveState", pattern],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    ).stdout.decode()
    for block in shown.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if unit.get("ActiveState") not in (None, "inactive", "failed"):
            found.add(unit["Id"].partition("@")[2].rpartition(".service")[0].partition(".")[0])
    return found


def unused_venvs(request: dict[str, Any]) -> list[str]:
    folder = request["opt"] + "/venvs"
    links = glob.glob(request["opt"] + "/releases/*/venv")
    used = {request["venv"], *(os.path.basename(os.readlink(link)) for link in links)}
    removed = []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        real = os.readlink(path) if os.path.islink(path) else name
        if real not in used and ENVIRONMENT.fullmatch(name):
            remove(path)
            removed.append(path)
    return removed


def undeclared(request: dict[str, Any]) -> list[str]:
    """Units of this project that nobody declares any more, stopped already: they must not start with the host."""
    removed = []
    for path in glob.glob(f"/etc/systemd/system/{request['project']}-*"):
        if not path.endswith((".service", ".timer")) or os.path.basename(path) in request["units"]:
            continue
        service = path[: -len(".timer")] + ".service" if path.endswith(".timer") else path
        if owner(service) != request["project"]:
            continue
        name = os.path.basename(path)
        subprocess.run(["systemctl", "disable", "--quiet", "--now", name], timeout=60, check=False)
        removed.append(path)
    for path in removed:
        os.unlink(path)
    if removed:
        subprocess.run(["systemctl", "daemon-reload"], timeout=60, check=False)
    return removed


def owner(path: str) -> str:
    """The project that a unit file belongs to, by its mark: of ``a`` and ``a-b`` none touches the other's."""
    try:
        with open(path) as file:
            found = re.search(r"^Environment=VOICEOPS_UNIT=([^/\s]+)/", file.read(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1) if found else ""


REQUESTS: dict[str, Any] = {"record": record, "note": note, "releases": releases}

if __name__ == "__main__":
    os.umask(0o022)  # root's own may be 077
    asked = json.loads(sys.argv[1])
    try:
        told = REQUESTS[asked.pop("do")](asked)
    except OSError as error:
        told = {"error": f"{error.filename}: {error.strerror}", "full": error.errno in (28, 122)}
    # On a line of its own: shells print things before it.
    print("\n" + json.dumps(told))
