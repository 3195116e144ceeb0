"""Builds the virtual environments of a checkout. Run by ``./inv`` before anything is installed,
so: standard library only, and nothing of voiceops.

An environment is immutable and named by the lock file that it was installed from:
``.voiceops/venvs/LOCKHASH-pyXY-RANDOM``, with a copy of that lock file in ``.complete``, written
last. ``.venv`` is a link to the current one and switches by rename. Agents run from these
folders, so a rebuild must never pull one from under them: old ones stay while a process uses
them. A build works in a folder that nobody else will ever name, under a lock that dies with its
owner; what an interrupted build left has no ``.complete`` and goes with the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

RUNTIME_LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"
STAMP = ".complete"

# They would send packages elsewhere, or make pip refuse to work outside of an environment.
_MISLEADING = (
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_TARGET",
    "PIP_USER",
    "UV_CONSTRAINT",
    "UV_EXCLUDE_NEWER",
    "UV_OVERRIDE",
    "UV_SYSTEM_PYTHON",
)
# uv does not read pip's settings: who has set up a mirror for pip means both.
_PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}


class BootstrapError(Exception):
    """What failed, what the failed command said last, and what to do about it."""

    def __init__(self, message: str, *, hint: str = "", log_tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log_tail = tuple(log_tail)


def main(arguments: Sequence[str]) -> None:
    """Build what is missing, make it the current environment, and run voiceops in it."""
    root = Path(arguments[0])
    try:
        environment = ensure(root, RUNTIME_LOCK, link=root / ".venv")
    except BootstrapError as error:
        print(f"error: {error.message}", file=sys.stderr)
        for line in error.log_tail:
            shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
            print(f"  | {shown}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; the next ./inv builds .venv again", file=sys.stderr)
        raise SystemExit(130) from None
    python = str(environment / "bin" / "python")
    os.execv(python, [python, "-I", "-m", "voiceops", *arguments[1:]])


def ensure(root: Path, lock_name: str, *, link: Path | None = None) -> Path:
    """The complete environment for a lock file, built when there is none.

    Safe to call at any time and by many processes at once: one builds, the others wait.
    """
    folder = root / ".voiceops" / "venvs"
    try:
        lock = (root / lock_name).read_bytes()
        if link is not None and link.is_dir() and not link.is_symlink():
            raise BootstrapError(
                f"{link} is a folder that ./inv did not make", hint=f"move it away: mv {link} {link}.old"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder / ".lock"):
            environment = _find(folder, lock) or _build(root, folder, lock)
            if link is not None:
                _switch(link, environment, folder)
        return environment
    except OSError as error:
        raise BootstrapError(
            f"can't build the environment in {folder}: {error.strerror or error}",
            hint="check free space (df) and the owner of the checkout",
        ) from error


def _find(folder: Path, lock: bytes) -> Path | None:
    for environment in sorted(folder.glob(f"{_prefix(lock)}-*")):
        stamp = environment / STAMP
        # An interpreter that was uninstalled since leaves a dangling link.
        if (environment / "bin" / "python").exists() and stamp.is_file() and stamp.read_bytes() == lock:
            return environment
    return None


def _digest(lock: bytes) -> str:
    return hashlib.sha256(lock).hexdigest()[:12]


def _prefix(lock: bytes) -> str:
    return f"{_digest(lock)}-py{sys.version_info[0]}{sys.version_info[1]}"


def _build(root: Path, folder: Path, lock: bytes) -> Path:
    started = time.monotonic()
    _say(f"building the environment with Python {sys.version.split()[0]} (once per lock file)")
    _sweep(root, folder)
    environment = folder / f"{_prefix(lock)}-{secrets.token_hex(4)}"
    try:
        with _Bar(environment, lock.decode().count("==")):
            _install(environment, lock)
        site = next((environment / "lib").glob("python3.*")) / "site-packages"
        (site / "voiceops-checkout.pth").write_text(_path_line(os.path.relpath(root, site)))
        _write_durably(environment / STAMP, lock)
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise
    _say(f"environment ready after {time.monotonic() - started:.0f} s")
    return environment


def _path_line(relative: str) -> str:
    """A line for a .pth file that puts the checkout on the path, wherever it was moved to.

    A plain relative line would be taken from ``.venv``, a link at another depth.
    """
    return f"import os, sys; sys.path.append(os.path.realpath(os.path.join(sitedir, {relative!r})))\n"


def _install(environment: Path, lock: bytes) -> None:
    """Make the environment: pip brings uv, uv brings the rest, pip is the way back if uv can't."""
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    _run([base, "-I", "-m", "venv", "--without-pip", str(environment)], "make a virtual environment")
    python = str(environment / "bin" / "python")
    requirements = environment / "requirements.txt"
    requirements.write_bytes(lock)
    pip = [python, "-I", *_pip(), "install", "--quiet", "--no-deps", "--require-hashes"]
    pip += ["--retries", "1", "--timeout", "15", "--disable-pip-version-check", "-r"]
    registry = "check the network, the proxy (HTTPS_PROXY) and the mirror (PIP_INDEX_URL)"
    uv = _uv_of_another(environment.parent, lock)
    if uv is None:
        only_uv = environment / "uv.txt"
        only_uv.write_text(_pinned(lock.decode(), "uv"))
        _run([*pip, str(only_uv)], "download uv from the package registry", hint=registry)
        uv = environment / "bin" / "uv"
    # Uncompiled, the first start of each agent would pay some seconds instead.
    options = ["--python", python, "--require-hashes", "--no-deps", "--compile-bytecode"]
    try:
        _run(
            [str(uv), "pip", "install", "--quiet", *options, "-r", str(requirements)],
            "install the dependencies with uv",
        )
    except BootstrapError as error:
        _say(f"{error.message}; trying pip")
        _run([*pip, str(requirements)], "install the dependencies", hint=registry)


class _Bar:
    """One line on a terminal that shows how many packages are installed; nothing anywhere else."""

    def __init__(self, environment: Path, total: int) -> None:
        self._environment = environment
        self._total = max(1, total)
        self._began = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)
        dumb = os.environ.get("TERM", "dumb") == "dumb" or os.environ.get("NO_COLOR")
        self._drawn = sys.stderr.isatty() and not dumb

    def __enter__(self) -> None:
        if self._drawn:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._drawn:
            self._thread.join()
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _draw(self) -> None:
        while not self._end.wait(0.2):
            sys.stderr.write(f"\r\033[K{self._text()}")
            sys.stderr.flush()

    def _text(self) -> str:
        installed = len(list(self._environment.glob("lib/python3.*/site-packages/*.dist-info")))
        done = min(20, installed * 20 // self._total)
        # The lock holds the packages of all platforms: this one takes some fewer.
        count = f"{installed} packages" if installed > 1 else "downloading packages"
        return f"voiceops: [{'#' * done}{'.' * (20 - done)}] {count}, {time.monotonic() - self._began:.0f} s"


def _uv_of_another(folder: Path, lock: bytes) -> Path | None:
    """The same uv from an environment that is complete, which saves 3 s of pip."""
    wanted = _pinned(lock.decode(), "uv")
    for stamp in folder.glob(f"*/{STAMP}"):
        uv = stamp.parent / "bin" / "uv"
        if wanted in stamp.read_text() and uv.exists():
            return uv
    return None


def _pip() -> list[str]:
    """pip straight from the wheel that ensurepip carries: installing it first takes 2 s more."""
    import ensurepip

    places = [
        Path(ensurepip.__file__).parent / "_bundled",
        Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/usr/share/python-wheels"),
    ]
    for place in places:
        for wheel in sorted(place.glob("pip-*.whl")):
            return [f"{wheel}/pip"]
    raise BootstrapError(f"{sys.executable} has ensurepip, but no wheel of pip with it")


def _pinned(lock: str, name: str) -> str:
    """One package's entry of a lock file, hashes included."""
    lines = lock.splitlines(keepends=True)
    starts = [index for index, line in enumerate(lines) if line.startswith(f"{name}==")]
    if not starts:
        raise BootstrapError(f"the lock file names no {name}")
    end = starts[0] + 1
    while end < len(lines) and lines[end].startswith((" ", "\t")):
        end += 1
    return "".join(lines[starts[0] : end])


def _switch(link: Path, environment: Path, folder: Path) -> None:
    # Relative, so that a checkout can be moved.
    target = os.path.relpath(environment, link.parent)
    if link.is_symlink() and os.readlink(link) == target:
        return
    fresh = folder / f".link-{secrets.token_hex(4)}"
    os.symlink(target, fresh)
    os.replace(fresh, link)


def _sweep(root: Path, folder: Path) -> None:
    """Remove what interrupted builds left, and old environments that no process uses.

    Only called under the lock. The one that ``.venv`` names stays as well: a command may
    have read the link and not be running yet.
    """
    current = {
        _digest((root / name).read_bytes()) for name in (RUNTIME_LOCK, DEV_LOCK) if (root / name).exists()
    }
    linked = os.path.realpath(root / ".venv")
    for environment in folder.iterdir():
        complete = (environment / STAMP).exists()
        if not environment.is_dir() or environment.is_symlink():
            if environment.name.startswith(".link-"):
                environment.unlink(missing_ok=True)
            continue
        if (
            complete
            and environment.name.split("-")[0] in current
            and (environment / "bin" / "python").exists()
        ):
            continue
        if str(environment) == linked or (complete and _in_use(environment)):
            continue
        shutil.rmtree(environment, ignore_errors=True)


def _in_use(environment: Path) -> bool:
    """Whether a process runs from this environment: by its arguments, or by a library it has mapped."""
    needle = os.fsencode(f"{environment}/")
    if not Path("/proc/self/maps").exists():
        listing = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, check=False)
        return needle in listing.stdout
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for source in ("cmdline", "maps"):
            try:
                if needle in (process / source).read_bytes():
                    return True
            except OSError:
                continue  # it ended, or belongs to somebody else
    return False


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when this process ends, however it ends."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another ./inv that builds the environment")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], doing: str, *, hint: str = "") -> None:
    """Run a command to its end; it dies with us."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=installer_environment(os.environ),
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            check=False,
        )
    except OSError as error:
        raise BootstrapError(f"could not {doing}: {error}", hint=hint) from error
    if done.returncode:
        tail = (done.stderr or b"").decode(errors="replace").strip().splitlines()[-8:]
        raise BootstrapError(f"could not {doing} (exit {done.returncode})", hint=hint, log_tail=tail)


def _die_with_parent() -> None:
    # An installer that outlives a killed ./inv would write beside the next one's.
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def installer_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """For pip and uv: without what would mislead them, and pip's mirror in uv's words."""
    environment = {name: value for name, value in inherited.items() if name not in _MISLEADING}
    for ours, theirs in _PIP_TO_UV.items():
        if ours in environment:
            environment.setdefault(theirs, environment[ours])
    return environment


def _write_durably(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(fresh, path)


def _say(line: str) -> None:
    print(f"voiceops: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
