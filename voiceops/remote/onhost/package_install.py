"""Install and remove packages by apt or dnf, without starting what they bring."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time

from voiceops.remote.onhost.base import Child, Failed, expect
from voiceops.remote.onhost.disk import remove_quietly, write_file
from voiceops.remote.onhost.host import ResourcePlan, ResourceRun
from voiceops.remote.onhost.packages import PackageHandler, daemons_note
from voiceops.remote.onhost.paths import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec

LISTS = "/var/lib/apt/lists"
LISTS_FRESH_S = 3600.0
PACKAGES_S = 1800.0
DNF_LOCKED = 200
UNIT_FILE = re.compile(r"/systemd/system/([^/]+[.](?:service|socket))$")
LIST_ENABLED = ("systemctl", "list-unit-files", "--state=enabled", "--plain", "--no-legend")
POLICY = "/usr/sbin/policy-rc.d"
POLICY_TEXT = b'#!/bin/sh\n# voiceops\n[ -z "$VOICEOPS_NO_DAEMONS" ] || exit 101\n'
"""Debian asks it before a package starts its daemon. One that a killed run left refuses nobody else."""


class PackageInstaller(PackageHandler):
    """Packages, installed and removed."""

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        apt, names, resumed = plan.data["apt"], plan.data["wrong"], plan.data["resumed"]
        if not spec["daemons"]:
            _hold_daemons(run, apt, names, resumed)
        try:
            if names and apt:
                self._apt(spec, run, names)
            elif names:
                self._dnf(spec, run, names)
        finally:
            if not spec["daemons"]:
                _release_daemons(run, apt, resumed)
        wrong = self._wrong(spec, run, apt)
        if wrong:
            what = "is no package's own name" if spec["present"] else "is still there"
            raise Failed(f"{wrong[0]} {what}")

    def _apt(self, spec: Spec, run: ResourceRun, names: list[str]) -> None:
        apt = ["apt-get", "-y", "-o", f"DPkg::Lock::Timeout={spec['lock_wait_s']:.0f}"]
        apt += ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
        if not spec["present"]:
            expect(_dpkg(run, *apt, "remove", *names), "apt-get")
            return
        install = [*apt, "--no-install-recommends", "install", *names]
        if _lists_fresh() and not _dpkg(run, *install).code:
            return
        _wait_for_lists(run, time.monotonic() + spec["lock_wait_s"])
        updated = _whole(run, *apt, "update")
        done = _dpkg(run, *install)
        # One broken source need not be in the way; if it is, it explains why something is not found.
        said = [line for line in updated.output.splitlines() if line[:2] in ("W:", "E:")]
        expect(Child(done.code, "\n".join([*said, done.output])), "apt-get")

    def _dnf(self, spec: Spec, run: ResourceRun, names: list[str]) -> None:
        verb = "install" if spec["present"] else "remove"
        dnf = ["dnf", "-y", "--setopt=exit_on_lock=True", "--setopt=install_weak_deps=False", verb, *names]
        ends_at = time.monotonic() + spec["lock_wait_s"]
        while True:
            done = _whole(run, *dnf)
            if done.code == DNF_LOCKED and time.monotonic() < ends_at:
                run.cancel.check()
                time.sleep(0.5)
            elif done.code == 1 and spec["present"] and "--refresh" not in dnf:
                dnf.append("--refresh")  # what it knows of its sources may be two days old
            else:
                expect(done, "dnf")
                return


def _whole(run: ResourceRun, *argv: str) -> Child:
    """To its end, even if the controller is gone: cut in two, it would leave packages half installed."""
    env = {
        "DEBIAN_FRONTEND": "noninteractive",
        "VOICEOPS_NO_DAEMONS": "1" if stat_of(daemons_note(run)) else "",
    }
    return run.child(*argv, env=env, timeout_s=PACKAGES_S, whole=True)


def _dpkg(run: ResourceRun, *argv: str) -> Child:
    """apt-get refuses everything after a dpkg that was interrupted; such work is finished first."""
    done = _whole(run, *argv)
    if done.code and os.listdir("/var/lib/dpkg/updates"):
        expect(_whole(run, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"), "dpkg")
        done = _whole(run, *argv)
    return done


def _wait_for_lists(run: ResourceRun, ends_at: float) -> None:
    """apt-get waits for dpkg's lock, but not for this one, which a fresh server's daily update holds."""
    try:
        with open(f"{LISTS}/lock", "r+") as file:
            while time.monotonic() < ends_at:
                run.cancel.check()
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return  # closing the file lets go of it
                except OSError:
                    time.sleep(0.2)
    except FileNotFoundError:
        return  # no apt was ever here


def _lists_fresh() -> bool:
    found = stat_of(LISTS)
    if found is None or time.time() - found.st_mtime > LISTS_FRESH_S:
        return False
    return any(name.endswith(("_Packages", "_Packages.lz4", "InRelease")) for name in os.listdir(LISTS))


def _lines(run: ResourceRun, pattern: str, *argv: str) -> list[str]:
    """The lines that match; filtered there, since what comes back is bounded. To its end, like the packages."""
    script = 'p=$1; shift; "$@" | grep -- "$p"'
    return run.child("sh", "-c", script, "sh", pattern, *argv, errors=False, whole=True).output.splitlines()


def _installed(run: ResourceRun, apt: bool) -> list[str]:
    if not apt:
        return _lines(run, "", "rpm", "-qa", "--qf", "%{NAME}\n")
    listed = _lines(run, "^ii", "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n")
    return [line.split()[1] for line in listed]


def _enabled(run: ResourceRun) -> set[str]:
    return {line.split()[0] for line in _lines(run, "[.]\\(service\\|socket\\) ", *LIST_ENABLED)}


def _hold_daemons(run: ResourceRun, apt: bool, names: list[str], resumed: bool) -> None:
    """Note what is there, on disk: whoever goes on after a cut run still knows what the packages brought."""
    if not resumed:
        note = {"packages": _installed(run, apt), "enabled": sorted(_enabled(run)), "coming": names}
        if apt and names:
            # "Inst NAME [OLD] (NEW ...)" is one that is there already.
            coming = _lines(
                run, "^Inst [^[]*(", "apt-get", "-s", "--no-install-recommends", "install", *names
            )
            note["coming"] = names + [line.split()[1].partition(":")[0] for line in coming]
        write_file(daemons_note(run), json.dumps(note).encode(), 0o600)
    if not stat_of(POLICY):
        write_file(POLICY, POLICY_TEXT, 0o755)


def _release_daemons(run: ResourceRun, apt: bool, resumed: bool) -> None:
    """Switch off what the new packages enabled, nobody else's units, and forget the note."""
    with open(daemons_note(run)) as file:
        note = json.load(file)
    new = set(_installed(run, apt)) - set(note["packages"])
    if resumed:  # others may have installed more since
        new &= set(note["coming"])
    files = _lines(run, "/systemd/system/", *(("dpkg", "-L") if apt else ("rpm", "-ql")), *new) if new else []
    units = {found[1] for found in map(UNIT_FILE.search, files) if found}
    brought = {one for one in _enabled(run) if {one, re.sub("@.*[.]", "@.", one)} & units}
    on = sorted(brought - set(note["enabled"]))
    if on:
        expect(run.child("systemctl", "disable", "--now", *on, whole=True), "systemctl disable")
    if stat_of(POLICY):
        with open(POLICY, "rb") as policy:
            ours = policy.read() == POLICY_TEXT
        if ours:
            remove_quietly(POLICY)
    remove_quietly(daemons_note(run))
