"""One run: lock, plan, fetch what is lacking, apply in order, settle, answer."""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import sys
import time

from voiceops.remote.onhost.accounts import GroupHandler, UserHandler
from voiceops.remote.onhost.base import PAYLOAD_FORMAT, Failed, Plan
from voiceops.remote.onhost.blobs import no_space, remove_quietly
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.files import (
    DAEMON_RELOAD,
    MARK,
    UNIT_FOLDERS,
    AbsentHandler,
    DirectoryHandler,
    FileHandler,
    SymlinkHandler,
    TreeHandler,
    has_content,
    refuse_foreign,
)
from voiceops.remote.onhost.host import Handler, PayloadRun
from voiceops.remote.onhost.journal import Journal, Lock, check_format, read_lease, write_file
from voiceops.remote.onhost.packages import PackageHandler
from voiceops.remote.onhost.paths import look, only_ours
from voiceops.remote.onhost.software import VenvHandler
from voiceops.remote.onhost.system import CommandHandler, SysctlHandler
from voiceops.remote.onhost.units import UnitHandler, forget_facts, reload_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from voiceops.remote.onhost.base import Spec


STATE_MARKS = {"format", "journal", "lock", "blobs", "data", MARK}
"""Any of them is ours; ``data`` is what systemd makes again where all else was removed."""


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


class Runner:
    """Applies a list of resources. The first failure stops the rest: nothing restarts on half a change."""

    def __init__(self, run: PayloadRun) -> None:
        self.run = run
        self.units = UnitHandler()
        self.handlers: dict[str, Handler] = {
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
        self.ordered = in_order(list(run.specs.values()))
        self.results: dict[str, dict[str, Any]] = {}
        self.failed = ""
        self._resumed = set(run.journal.interrupted)

    def plan(self, spec: Spec) -> Plan:
        return self.handlers[spec["type"]].plan(spec, self.run)

    def survey(self) -> None:
        """Plan everything as the host is now: enough to know whether anything is to do, and what to upload."""
        wanted: list[tuple[str, int]] = []
        for spec in self.ordered:
            if spec.get("secret") and "sha256" in spec:
                self.run.blobs.mark_secret(spec["sha256"])
            result, plan = self._planned(spec)
            self.results[spec["id"]] = result
            if result["result"] != "ok":
                # A failure counts as well: what is missing now may be made by an earlier step.
                self.run.changed.add(spec["id"])
            for sha256, size in plan.blobs if plan else ():
                self.run.blobs.expect_use(sha256)
                wanted.append((sha256, size))
        self._tell_reload(self._unloaded())
        if not self.run.check and wanted:
            self.run.blobs.fetch(wanted)

    def _unloaded(self) -> set[str]:
        """Unit files that a killed run wrote, and systemd does not know yet."""
        return set(self.run.journal.pending.get(DAEMON_RELOAD, ()))

    def _tell_reload(self, files: set[str]) -> None:
        for key in files & set(self.results):
            if self.results[key]["result"] == "ok":
                self.results[key].update(result="changed", changes=["load it into systemd"])

    def _planned(self, spec: Spec) -> tuple[dict[str, Any], Plan | None]:
        result: dict[str, Any] = {"id": spec["id"], "result": "ok"}
        try:
            plan = self.plan(spec)
        except (Failed, OSError) as error:
            if getattr(error, "kind", "") == "foreign":
                raise  # before anything has changed
            return {**result, **describe(error)}, None
        if plan.note:
            result["note"] = plan.note
        if plan.changes:
            result.update(result="changed", changes=plan.changes)
        elif plan.unknown:
            result.update(result="unknown", note=plan.unknown)
        if plan.before is not None:
            result["before"] = plan.before
        return result, plan

    def has_work(self) -> bool:
        """Whether anything differs, was left undone, or may be a restart loop."""
        different = any(result["result"] != "ok" for result in self.results.values())
        return different or bool(self.units.unsettled()) or DAEMON_RELOAD in self.run.journal.pending

    def apply(self) -> None:
        """Walk the list again, each resource planned anew right before its turn."""
        unloaded = self._unloaded()
        self.run.changed.clear()
        self.run.guessing = False
        forget_facts(self.run)
        for spec in self.ordered:
            if self.failed:
                self.results[spec["id"]] = {
                    "id": spec["id"],
                    "result": "skipped",
                    "note": f"after {self.failed}",
                }
                continue
            self._settle({need for need in spec.get("needs", ()) if need in self.run.specs})
            self._step(spec)
        if not self.failed:
            reload_units(self.run, facts={})
            self._tell_reload(unloaded)
        self._settle(None)

    def _step(self, spec: Spec) -> None:
        started = time.monotonic()
        key = spec["id"]
        try:
            self.run.cancel.check()
            result, plan = self._planned(spec)
            self.results[key] = result
            if plan is None:
                self.failed = key
            elif plan.changes:
                self.run.channel.send("step", {"id": key, "changes": plan.changes})
                self.run.journal.intent(key, self._wakes(spec))
                self.handlers[spec["type"]].apply(spec, self.run, plan)
                self.run.journal.done(key)
                self.run.changed.add(key)
                if key in self._resumed:
                    result["note"] = "an earlier run left this half done"
            elif key in self.run.journal.interrupted or key in self.run.journal.pending:
                self.run.journal.done(key)
        except (Failed, OSError) as error:
            self.results[key] = {**self.results.get(key, {"id": key}), **describe(error)}
            self.failed = key
        self.results[key]["seconds"] = round(time.monotonic() - started, 3)

    def _wakes(self, spec: Spec) -> set[str]:
        """Who must act after this change, and be reminded if we die before they did."""
        key = spec["id"]
        wakes = {
            other["id"]
            for other in self.ordered
            for list_name in ("restart_on", "reload_on", "on_change")
            if key in other.get(list_name, ())
        }
        if spec.get("path", "").startswith(UNIT_FOLDERS):
            wakes.add(DAEMON_RELOAD)
        if spec["type"] in ("unit", "command") and (key in self.run.journal.pending or self._reacts(spec)):
            wakes.add(key)  # it reacts to a change: until it is done it stays due
        return wakes

    def _reacts(self, spec: Spec) -> bool:
        return bool(self.run.causes(spec, "restart_on") or self.run.causes(spec, "on_change"))

    def _settle(self, only: set[str] | None) -> None:
        if only is not None and not only:
            return
        try:
            failures = self.units.settle(self.run, only)
        except Failed as cancelled:
            failures = dict.fromkeys(self.units.unsettled(), cancelled)
        for key, error in failures.items():
            # It must start again next time, although its own step is over.
            self.run.journal.write({"intent": key, "wakes": [key]})
            self.run.journal.write({"failed": key})
            self.results[key] = {**self.results.get(key, {"id": key}), **describe(error)}
            self.failed = self.failed or key


def describe(error: Failed | OSError) -> dict[str, Any]:
    if isinstance(error, OSError):
        error = no_space(error, str(error.filename or "/"))
    return {"result": "failed", "error": error.message, "log": error.log, "kind": error.kind}


def host_facts() -> dict[str, Any]:
    """What a controller wants to know before it decides what to send."""
    import platform

    release: dict[str, str] = {}
    try:
        with open("/etc/os-release") as file:
            pairs = (line.rstrip("\n").split("=", 1) for line in file if "=" in line)
            release = {key: value.strip('"') for key, value in pairs}
    except OSError:
        pass
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "machine": platform.machine(),
        "libc": list(platform.libc_ver()),
        "os": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "hostname": platform.node(),
        "uid": os.getuid(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "format": PAYLOAD_FORMAT,
    }


def serve(channel: Channel, code_path: str) -> None:
    """Answer one request."""
    request = channel.request()
    action, folder = request["action"], request.get("state_dir", "")
    if action == "facts":
        channel.send("done", {"facts": host_facts(), "lease": read_lease(os.path.join(folder, "lock"))})
        return
    check_folder(folder)
    if action == "check":
        run = PayloadRun(request, channel, Journal(folder, readonly=True))
        runner = Runner(run)
        runner.survey()
        keep_caches(run, code_path)
        channel.send("done", answer(runner, request))
        return
    open_folder(folder)
    lock = Lock(folder, request["lock"])
    lock.take(lambda holder: channel.send("waiting", holder), channel.check)
    try:
        if action == "apply":
            channel.send("done", apply_all(request, channel, folder, lock, code_path))
        else:
            channel.send("done", {"lease": read_lease(os.path.join(folder, "lock"))})
        channel.stay(float(request.get("stay_s", 0)), lock.renew)
    finally:
        lock.release()


def check_folder(folder: str) -> None:
    """Refuse a state folder that somebody else made or can write: root acts on what is in it."""
    check_format(folder)
    if look(folder):
        if not is_ours(folder):
            raise Failed(
                f"{folder} belongs to or can be written by somebody else, and root acts on what is in it"
            )
        refuse_foreign(folder, not has_content(folder) or has_mark(folder))


def has_mark(folder: str) -> bool:
    return not STATE_MARKS.isdisjoint(os.listdir(folder))


def open_folder(folder: str) -> None:
    """The state folder, with the format that wrote it."""
    os.makedirs(folder, 0o755, exist_ok=True)
    path = os.path.join(folder, "format")
    try:
        with open(path) as file:
            if int(file.read() or 0) == PAYLOAD_FORMAT:
                return
    except (FileNotFoundError, ValueError):
        pass
    write_file(path, str(PAYLOAD_FORMAT).encode(), 0o644)


def apply_all(request: Spec, channel: Channel, folder: str, lock: Lock, code_path: str) -> dict[str, Any]:
    run = PayloadRun(request, channel, Journal(folder, readonly=False))
    runner = Runner(run)
    runner.survey()
    if runner.has_work():
        channel.watch(lock.renew)
        lease = request["lock"]
        run.journal.begin({"owner": lease.get("owner", ""), "reason": lease.get("reason", "")})
        runner.apply()
        if not runner.failed:
            run.blobs.clear()
        run.journal.write({"end": runner.failed or "ok", "changed": len(run.changed)})
    keep_caches(run, code_path)
    return answer(runner, request)


def keep_caches(run: PayloadRun, code_path: str) -> None:
    """For the next run, also after a check: what files hash to, and the compiled payload."""
    if not may_cache(run.folder):
        return
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, never a run
        run.hashes.save()
        keep_code(code_path, globals().get("CODE"))


def may_cache(folder: str) -> bool:
    """A check leaves an empty folder empty: with a cache and no mark in it, it would look like somebody else's."""
    return is_ours(folder) and has_mark(folder)


def is_ours(folder: str) -> bool:
    """Whether only root can have written what is in the folder."""
    try:
        return only_ours(os.stat(folder))
    except OSError:
        return False


def keep_code(path: str, code: CodeType | None) -> None:
    """Compiled code for the next run, instead of that of other versions."""
    if code is None or os.path.exists(path):
        return
    folder, name = os.path.split(path)
    write_file(path, marshal.dumps(code), 0o600)
    for other in os.listdir(folder):
        if other.startswith(name.partition("-")[0] + "-") and other != name:
            remove_quietly(os.path.join(folder, other))


def compiled(program: str, version: str, folder: str) -> CodeType:
    """The program, which ``version`` names, compiled by an earlier run or now; only a file of root's in a folder of root's counts."""
    path = os.path.join(folder, f"look-{version}-{sys.version_info[0]}{sys.version_info[1]}")
    ours = may_cache(folder)
    if ours:
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError), open(path, "rb") as file:
            if is_ours(path):
                known: CodeType = marshal.loads(file.read())
                return known
    code = compile(program, "look", "exec")
    if ours:
        with contextlib.suppress(OSError):
            keep_code(path, code)
    return code


def answer(runner: Runner, request: Spec) -> dict[str, Any]:
    results = [runner.results[spec["id"]] for spec in request["resources"]]
    failed = runner.failed or next((result["id"] for result in results if result["result"] == "failed"), "")
    found: dict[str, Any] = {"results": results, "failed": failed}
    look = request.get("look")
    if look and not failed:
        names: dict[str, Any] = {"__name__": "look"}
        exec(compiled(look["program"], look["version"], request["state_dir"]), names)
        found["look"] = names["look"](dict(look["request"], shown=runner.run.looked))
    return found


def main(mark: str, code_path: str) -> None:
    """Entry point of the payload; every way out but a crash of Python itself ends with a frame."""
    os.chdir("/")  # what lies in the login's folder must not matter to any child
    channel = Channel(mark)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(channel.cancel, "reason", "it was told to end"))
    try:
        serve(channel, code_path)
    except (Failed, OSError) as error:
        told = describe(error)
        channel.send("error", {**told, "message": told["error"]})
    except Exception as error:  # noqa: BLE001 - the controller can only see what is framed
        import traceback

        lines = traceback.format_exc().splitlines()
        channel.send("error", {"kind": "bug", "message": f"{type(error).__name__}: {error}", "log": lines})
