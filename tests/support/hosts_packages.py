"""Packages for test hosts, which have no internet: a local apt repository on the host itself.

This machine's own apt client downloads what the hosts' root file system lacks, once; it stays in the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import parts
from tests.support.hosts_kernel import checked
from tests.support.hosts_machine import Machine
from tests.support.hosts_rootfs import SUITE, locked, rootfs

_REPOSITORY = "/srv/debs"
_TINY = """\
Name: voiceops-tiny
Version: 1
Release: 1
Summary: For tests
License: MIT
BuildArch: noarch
AutoReqProv: no
Provides: voiceops-virtual
%description
For tests.
%install
mkdir -p %{buildroot}/usr/share
echo tiny > %{buildroot}/usr/share/voiceops-tiny
%files
/usr/share/voiceops-tiny
"""
_MAKE_RED_HAT = r"""
set -e
apt-get -qq update
apt-get -qq -y --no-install-recommends install dnf rpm createrepo-c
cd /srv
rpmbuild --quiet -bb --define '_topdir /srv/build' tiny.spec
mkdir rpms
mv build/RPMS/noarch/*.rpm rpms/
createrepo_c -q rpms
mkdir -p /etc/yum.repos.d
printf '[tests]\nname=tests\nbaseurl=file:///srv/rpms\ngpgcheck=0\n' > /etc/yum.repos.d/tests.repo
rm -r build debs /usr/bin/apt-get
"""


def add_repository(
    machine: Machine, *names: str, without: Sequence[str] = (), own: Sequence[Path] = ()
) -> None:
    """Make ``names`` and what they need installable by apt on the host; ``without`` is not on it."""
    _add_repository(machine.root, names, without, own)


def dnf_layer() -> Path:
    """What lies over a Debian host to make its package manager a real dnf, with one package to install."""
    recipe = hashlib.sha256(repr((rootfs().name, _TINY, _MAKE_RED_HAT)).encode()).hexdigest()[:12]
    folder = parts.cache_folder() / "hosts" / f"dnf-{recipe}"
    if not (folder / "upper").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            if not (folder / "upper").exists():
                _build_layer(folder)
    return folder / "upper"


def _build_layer(folder: Path) -> None:
    with _mounted(folder / "building") as root:
        _add_repository(root, ("dnf", "rpm", "createrepo-c"), (), ())
        (root / "srv/tiny.spec").write_text(_TINY)
        done = _run("chroot", str(root), "/bin/sh", "-c", _MAKE_RED_HAT)
        if done.returncode:
            parts.missing("a host with dnf", (done.stdout + done.stderr).strip()[-500:])
    (folder / "building/upper").rename(folder / "upper")


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    """The hosts' root file system under a fresh layer, which is ``folder/upper``."""
    root = folder / "root"
    if root.is_mount():  # of a run that died
        checked("umount", "--lazy", str(root))
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(parents=True)
    options = f"lowerdir={rootfs()},upperdir={folder}/upper,workdir={folder}/work"
    checked("mount", "-t", "overlay", "overlay", "-o", options, str(root))
    try:
        yield root
    finally:
        checked("umount", str(root))


def _add_repository(root: Path, names: Sequence[str], without: Sequence[str], own: Sequence[Path]) -> None:
    debs = [*(sorted(_downloaded(names, without).glob("*.deb")) if names else ()), *own]
    target = root / _REPOSITORY.lstrip("/")
    target.mkdir(parents=True)
    for deb in debs:
        shutil.copyfile(deb, target / deb.name)
    (target / "Packages").write_text("".join(_entry(deb) for deb in debs))
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{_REPOSITORY} ./\n")
    # These hosts are thrown away.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe").write_text("force-unsafe-io\n")


def build_deb(folder: Path, name: str, files: Mapping[str, str] | None = None, **scripts: str) -> Path:
    """A package of a few files, by their path, and of maintainer scripts, such as ``postinst``."""
    control = folder / name / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: Tests <tests@example.com>\n"
        "Description: for tests\n"
    )
    for script, text in scripts.items():
        (control / script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        (control / script).chmod(0o755)
    for path, text in (files or {}).items():
        file = folder / name / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    deb = folder / f"{name}.deb"
    _checked("dpkg-deb", "--root-owner-group", "-b", str(control.parent), str(deb))
    return deb


def _entry(deb: Path) -> str:
    """What an index of packages says of one."""
    control = _checked("dpkg-deb", "-f", str(deb)).strip()
    data = deb.read_bytes()
    return f"{control}\nFilename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


def _downloaded(names: Sequence[str], without: Sequence[str]) -> Path:
    root = rootfs()
    if f"VERSION_CODENAME={SUITE}\n" not in Path("/etc/os-release").read_text() or not shutil.which(
        "apt-get"
    ):
        parts.missing("packages for test hosts", f"only apt on Debian {SUITE} can download them")
    key = hashlib.sha256(repr((root.name, sorted(names), sorted(without))).encode()).hexdigest()[:12]
    folder = parts.cache_folder() / "debs" / key
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock"):
        if not folder.exists():
            _download(root, names, without, folder)
    return folder


def _download(root: Path, names: Sequence[str], without: Sequence[str], ready: Path) -> None:
    building = ready.with_name(ready.name + ".building")
    shutil.rmtree(building, ignore_errors=True)  # of a run that died: only the holder of the lock is here
    (building / "partial").mkdir(parents=True)
    status = building / "status"
    status.write_text(_without((root / "var/lib/dpkg/status").read_text(), without))
    options = {
        "Dir::State::status": status,
        "Dir::State::extended_states": building / "none",
        "Dir::Cache::archives": building,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    argv = ["apt-get", *(f"-o{name}={value}" for name, value in options.items())]
    argv += ["-qq", "-y", "--no-install-recommends", "--download-only", "install", *names]
    done = _run(*argv)
    if done.returncode:
        _run("apt-get", "-qq", "update")
        done = _run(*argv)
    if done.returncode:
        parts.missing("packages for test hosts", done.stderr.strip()[-300:])
    building.rename(ready)


def _without(status: str, names: Sequence[str]) -> str:
    """dpkg's list of what is installed, without these."""
    stanzas = status.split("\n\n")
    return "\n\n".join(
        one for one in stanzas if one.partition("\n")[0].removeprefix("Package: ") not in names
    )


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)


def _checked(*argv: str) -> str:
    done = _run(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout
