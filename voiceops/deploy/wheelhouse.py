"""The wheels that a host needs: resolved for its Python and machine, fetched once, kept by their lock.

What is wanted is text (``Wanted``), and its hash names the folder in the user's cache; so a deploy
that changes nothing reads one small file here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voiceops.deploy.own_wheel import OwnWheel
from voiceops.errors import ConfigError, StorageError, VoiceopsError
from voiceops.resources import Content
from voiceops.util.atomic_write import write_atomically

ROOTS = (
    *("livekit-agents", "livekit-api", "livekit", "invoke", "msgspec", "pyyaml", "jinja2", "rich"),
    *("psutil", "prometheus-client", "espeakng-loader", "pillow", "uv"),
)
"""What runs on hosts. Fabric and Paramiko stay here: hosts deploy nobody."""
PIP_LOCK = Path(__file__).with_name("pip.lock")
"""pip, which fetches the wheels, pinned by hash as everything else."""
_FETCH_S = 900.0


@dataclass(frozen=True, slots=True)
class HostPlatform:
    """What a host runs wheels on."""

    python: tuple[int, int]
    machine: str
    libc: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> HostPlatform:
        """From what the payload says; ``ConfigError`` where no wheels exist for it."""
        name, version = facts["libc"]
        if name != "glibc" or facts["machine"] not in ("x86_64", "aarch64"):
            raise ConfigError(
                f"{facts['hostname']} is {facts['machine']} with {name or 'an unknown C library'}",
                hint="LiveKit has wheels for glibc on x86_64 and aarch64",
            )
        major, minor, _ = facts["python"]
        if (major, minor) < (3, 10):
            raise ConfigError(
                f"{facts['hostname']} has Python {major}.{minor}; agents need 3.10 or newer",
                hint="Debian 12 and Ubuntu 22.04 have it",
            )
        return cls((major, minor), facts["machine"], version)

    @property
    def version(self) -> str:
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def platform(self) -> str:
        """As uv names it."""
        return f"{self.machine}-manylinux_{self.libc.replace('.', '_')}"

    def tags(self) -> list[str]:
        """The platform tags of wheels that run there, the newest first."""
        newest = int(self.libc.split(".")[1])
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, 4, -1)]
        old = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
        return [*tags, *(f"{name}_{self.machine}" for name in old)]


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """Locked requirements, and the files that satisfy them."""

    requirements: str
    files: Mapping[str, Content]
    uv: str
    """The name of uv's own wheel."""


def wheelhouse(
    facts: HostPlatform,
    *,
    requirements: str,
    imported: Sequence[str] = (),
    constraints: Path,
    upload: bool,
    own: OwnWheel | None,
    cache: Path,
    say: Callable[[str], None],
    roots: Sequence[str] = ROOTS,
) -> Wheelhouse:
    """Resolve and fetch what is not in the cache yet; many processes may ask at once.

    ``imported``: what services of this host import beyond ``roots``. ``own``: voiceops itself; None: it is not part of it.
    """
    roots = (*roots, *imported)
    parts = (requirements, constraints.read_text(), facts.platform, facts.version, ",".join(roots), "2")
    folder = cache / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    with _only_one(folder):
        if not (folder / "requirements.txt").exists():
            say(f"resolving what agents need on Python {facts.version}, {facts.machine}")
            _resolve(folder, facts, roots, requirements, constraints, complete=own is None)
        locked = (folder / "requirements.txt").read_text()
        known = folder / "wheels.json"
        if not known.exists():
            say("fetching wheels")
            _fetch(folder, facts, only=None if upload else entry_of(locked, "uv"), with_sources=own is None)
            locked = (folder / "requirements.txt").read_text()
    listed: dict[str, list[Any]] = json.loads(known.read_text())
    if upload and len(listed) == 1:
        known.unlink()  # it was fetched for hosts with an index
        return wheelhouse(
            facts,
            requirements=requirements,
            imported=imported,
            constraints=constraints,
            upload=upload,
            own=own,
            cache=cache,
            say=say,
            roots=roots[: len(roots) - len(imported)],
        )
    files = {name: _content(folder / "wheels" / name, *entry) for name, entry in listed.items()}
    uv = next(name for name in files if name.startswith("uv-"))
    if not upload:
        files = {uv: files[uv]}
    if own is None:
        return Wheelhouse(requirements=locked, files=files, uv=uv)
    files[own.name] = own.content
    mine = f"voiceops=={own.version} --hash=sha256:{own.content.sha256}\n"
    return Wheelhouse(requirements=locked + mine, files=files, uv=uv)


def _content(path: Path, sha256: str, size: int) -> Content:
    return Content(sha256, size, lambda: path.open("rb"), path.name)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StorageError(f"can't write to {folder}: {error.strerror}") from None


def _resolve(
    folder: Path,
    facts: HostPlatform,
    roots: Sequence[str],
    requirements: str,
    constraints: Path,
    *,
    complete: bool,
) -> None:
    """``complete``: the requirements are a lock, to which nothing is added; what is for other platforms goes."""
    wanted = folder / "requirements.in"
    wanted.write_text("\n".join([*roots, requirements, ""]))
    target = folder / "requirements.tmp"
    argv = [_uv(), "pip", "compile", str(wanted), "-o", str(target), "--quiet", "--no-header"]
    argv += ["--no-annotate", "--generate-hashes", "--no-emit-index-url"]
    argv += ["--python-platform", facts.platform, "--python-version", facts.version]
    argv += ["--no-deps"] if complete else ["--only-binary", ":all:", "-c", str(constraints)]
    _run(argv, "resolving the requirements", hint="see `deploy.requirements` in inventory.yaml")
    target.write_text(with_locked_hashes(target.read_text(), (constraints.read_text(), requirements)))
    target.replace(folder / "requirements.txt")


def _fetch(folder: Path, facts: HostPlatform, *, only: str | None, with_sources: bool) -> None:
    """``with_sources``: what has no wheel is built into one here, if that runs on any machine."""
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    named = folder / "requirements.txt"
    if only:
        named = folder / "uv.txt"
        named.write_text(only)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    argv += [] if with_sources else ["--only-binary", ":all:"]
    argv += ["--disable-pip-version-check", "--implementation", "cp", "--python-version", facts.version]
    for tag in facts.tags():
        argv += ["--platform", tag]
    argv += ["--dest", str(wheels), "--requirement", str(named)]
    _run(
        argv,
        "fetching wheels",
        env={"PYTHONPATH": str(_pip(folder.parent))},
        hint="a package without a wheel for the host can't be installed there; see `deploy.requirements`",
    )
    for source in sorted(wheels.glob("*.tar.gz")):
        _build(folder, source)
    listed = {}
    for wheel in sorted(wheels.glob("*.whl")):
        content = Content.of_file(wheel)
        listed[wheel.name] = [content.sha256, content.size]
    target = folder / "wheels.tmp"
    target.write_text(json.dumps(listed))
    target.replace(folder / "wheels.json")


def _build(folder: Path, source: Path) -> None:
    """Put a wheel in the place of a source archive, whose hash was checked, and its hash into the requirements."""
    built = folder / "built"
    argv = [_uv(), "build", "--quiet", "--wheel", "--out-dir", str(built), str(source)]
    # The same bytes wherever it is built: the hash names the environment.
    _run(argv, f"building {source.name}", env={"SOURCE_DATE_EPOCH": "315532800"})
    (wheel,) = built.glob("*.whl")
    if not wheel.name.endswith("-none-any.whl"):
        raise VoiceopsError(f"{source.name} can't be built here for another machine")
    key = (_normalized(wheel.name.split("-")[0]), wheel.name.split("-")[1])
    sha256 = f"sha256:{Content.of_file(wheel).sha256}"

    def rehashed(found: re.Match[str]) -> str:
        entry, pinned, _ = _entry(found)
        return _written(pinned, [sha256]) if entry == key else found[0]

    requirements = folder / "requirements.txt"
    write_atomically(requirements, _ENTRY.sub(rehashed, requirements.read_text()).encode())
    wheel.replace(folder / "wheels" / wheel.name)
    source.unlink()


def _pip(cache: Path) -> Path:
    """pip, which uv environments lack: uv can't fetch wheels without installing them."""
    folder = cache / f"pip-{hashlib.sha256(PIP_LOCK.read_bytes()).hexdigest()[:12]}"
    if not (folder / "pip").is_dir():
        fresh = cache / f"pip.{os.getpid()}"
        argv = [_uv(), "pip", "install", "--quiet", "--target", str(fresh), "--no-deps", "--require-hashes"]
        _run([*argv, "--requirement", str(PIP_LOCK)], "fetching pip")
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return folder


def _uv() -> str:
    import uv

    return str(uv.find_uv_bin())


def _run(
    argv: Sequence[str], what: str, *, env: Mapping[str, str] | None = None, hint: str | None = None
) -> None:
    from voiceops.bootstrap import installer_environment

    environment = installer_environment(os.environ) | dict(env or {})
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_FETCH_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise VoiceopsError(f"{what} took longer than {_FETCH_S:g} s", retryable=True) from None
    if done.returncode != 0:
        tail = tuple((done.stdout + done.stderr).splitlines()[-10:])
        raise VoiceopsError(f"{what} failed", log_tail=tail, hint=hint)


_ENTRY = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)(?:.*\\\n)*.*\n?", re.MULTILINE)
_HASH = re.compile(r"--hash=(\w+:[0-9a-fA-F]+)")


def with_locked_hashes(resolved: str, locks: Sequence[str]) -> str:
    """``resolved`` with the hashes of the first lock that has the same name and version.

    uv takes versions from its constraints, but hashes from the index: an index that serves another file
    under a locked name and version would otherwise be believed.
    """
    known: dict[tuple[str, str], list[str]] = {}
    for lock in locks:
        for key, _, hashes in _entries(lock):
            if hashes:
                known.setdefault(key, hashes)

    def locked(found: re.Match[str]) -> str:
        key, pinned, _ = _entry(found)
        return _written(pinned, known[key]) if key in known else found[0]

    return _ENTRY.sub(locked, resolved)


def entry_of(text: str, name: str) -> str:
    """The entry of one package, hashes included; ``KeyError`` where there is none."""
    for key, pinned, hashes in _entries(text):
        if key[0] == _normalized(name):
            return _written(pinned, hashes)
    raise KeyError(name)


_Entry = tuple[tuple[str, str], str, list[str]]
"""Name and version, the requirement without hashes, the hashes."""


def _entries(text: str) -> Iterator[_Entry]:
    return map(_entry, _ENTRY.finditer(text))


def _entry(found: re.Match[str]) -> _Entry:
    pinned = found[0].partition("\n")[0].partition(" --hash")[0].rstrip(" \\")
    return (_normalized(found[1]), found[2]), pinned, _HASH.findall(found[0])


def _written(pinned: str, hashes: Sequence[str]) -> str:
    return " \\\n    --hash=".join([pinned, *hashes]) + "\n"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
