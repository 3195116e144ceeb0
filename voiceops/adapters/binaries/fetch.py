"""Gets a livekit-server: the official release with its checksum, else ``go install``.

Each source fails quickly and says why; the final error names all of the causes. A fetched
binary appears under its name by rename, complete and tried once, or not at all. One for another
architecture can't be tried: its file must say what it is made for, and which version Go built.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from voiceops.adapters.binaries.cached import exclusive, writing_to
from voiceops.adapters.binaries.elf import go_module_version, machine_of
from voiceops.adapters.binaries.go_toolchain import go_command
from voiceops.adapters.binaries.progress import OnProgress, Progress, ask_version
from voiceops.errors import StorageError, UnreachableError, VoiceopsError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
BUILD_TIMEOUT_S = 1200.0
ATTEMPTS = 3
CHUNK_BYTES = 256 * 1024
MODULE = "github.com/livekit/livekit-server"
PACKAGE = f"{MODULE}/cmd/server"
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armv7"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    version: str
    target: Path
    releases: str
    machine: str
    """Empty: this one."""


def fetch(version: str, target: Path, *, releases: str, machine: str, on_progress: OnProgress) -> Path:
    """Put the binary of ``version`` at ``target``, for a Linux on ``machine`` where one is named."""
    wanted = _Wanted(version, target, releases, machine)
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target.parent / ".lock", "livekit-server", on_progress):
            if os.access(target, os.X_OK):
                return target
            for leftover in target.parent.glob("build-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            causes: list[str] = []
            for source in (_download, _build):
                try:
                    source(wanted, on_progress)
                except StorageError:
                    raise
                except VoiceopsError as error:
                    causes.append(error.message)
                    on_progress(Progress(doing=error.message))
                else:
                    return target
    raise VoiceopsError(
        f"there is no livekit-server {version} for {machine}: not in the cache, and no source has it"
        if machine
        else f"there is no livekit-server {version}: neither on PATH nor in the cache, and no source has it",
        hint=f"{'' if machine else 'put the binary on PATH, or '}name it: services: {{livekit: {{binary: PATH}}}}",
        log_tail=tuple(causes),
        data={"causes": causes},
    )


def _download(wanted: _Wanted, on_progress: OnProgress) -> None:
    system = "linux" if wanted.machine else sys.platform
    machine = wanted.machine or platform.machine()
    if system != "linux" or machine not in _GO_NAMES:
        raise VoiceopsError(f"no release archive for {system} on {machine}")
    name = f"livekit_{wanted.version}_linux_{_GO_NAMES[machine]}.tar.gz"
    base = f"{wanted.releases.rstrip('/')}/v{wanted.version}"
    _check_reachable(base)
    checksum = _checksum(_small_file(f"{base}/checksums.txt"), name)
    archive = wanted.target.with_name(name + ".part")
    _resume(f"{base}/{name}", archive, on_progress)
    if _sha256(archive) != checksum:
        archive.unlink()
        raise VoiceopsError(f"{base}/{name} does not match its checksum; refused")
    _unpack(archive, wanted)
    archive.unlink()


def _check_reachable(url: str) -> None:
    """Connect once, name lookup included, in bounded time.

    Without a network the resolver alone can take half a minute, and it can't be interrupted:
    a thread takes that, and ends with the process at the latest.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(host):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
            outcome.append("")
        except OSError as error:
            outcome.append(error.strerror or str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    if not outcome:
        raise UnreachableError(f"{host} did not answer within {CONNECT_TIMEOUT_S:g} s")
    if outcome[0]:
        raise UnreachableError(f"{host} can't be reached: {outcome[0]}")


def _small_file(url: str) -> str:
    with _opened(url, {}) as answer:
        return answer.read(1_000_000).decode(errors="replace")


def _checksum(listing: str, name: str) -> str:
    for line in listing.splitlines():
        digest, _, file = line.partition(" ")
        if file.strip().lstrip("*") == name and len(digest) == 64:
            return digest.lower()
    raise VoiceopsError(f"the release's checksums.txt does not name {name}")


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[IO[bytes]]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(headers)), timeout=READ_TIMEOUT_S
        ) as a:
            yield a
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{url} answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnreachableError(f"{url}: {error.reason}", retryable=True) from error
    except TimeoutError as error:
        raise UnreachableError(f"{url} sent nothing for {READ_TIMEOUT_S:g} s", retryable=True) from error
    except ConnectionError as error:
        raise UnreachableError(f"{url}: {error}", retryable=True) from error


def _resume(url: str, part: Path, on_progress: OnProgress) -> None:
    """Download, going on where an interrupted download stopped."""
    for attempt in range(1, ATTEMPTS + 1):
        have = part.stat().st_size if part.exists() else 0
        try:
            with _opened(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
                _receive(answer, part, have, on_progress)
            return
        except UnreachableError as error:
            if have and not error.retryable:
                part.unlink()  # 416: what is there is not the beginning of this file
            elif attempt == ATTEMPTS or not error.retryable:
                raise


def _receive(answer: IO[bytes], part: Path, have: int, on_progress: OnProgress) -> None:
    status = getattr(answer, "status", 200)
    length = getattr(answer, "headers", {}).get("Content-Length")
    done = have if status == 206 else 0
    total = done + int(length) if length else None
    with part.open("ab" if done else "wb") as file:
        while chunk := answer.read(CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            on_progress(Progress(doing="downloading livekit-server", done=done, total=total, unit="bytes"))
    if total is not None and done < total:
        raise UnreachableError(f"the connection ended after {done} of {total} bytes", retryable=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _unpack(archive: Path, wanted: _Wanted) -> None:
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=wanted.target.parent))
    try:
        with tarfile.open(archive) as tar:
            member = next((m for m in tar if Path(m.name).name == "livekit-server" and m.isfile()), None)
            content = tar.extractfile(member) if member else None
            if content is None:
                raise VoiceopsError("the release archive holds no livekit-server")
            with (folder / "livekit-server").open("wb") as out:
                shutil.copyfileobj(content, out)
        _install(folder / "livekit-server", wanted)
    except (tarfile.TarError, EOFError) as error:
        raise VoiceopsError(f"the release archive can't be read: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(binary: Path, wanted: _Wanted) -> None:
    """Check the binary once, then give it its name."""
    binary.chmod(0o755)
    with binary.open("rb+") as file:
        os.fsync(file.fileno())
    if wanted.machine:
        _check_foreign(binary, wanted)
    else:
        seen = ask_version(binary)
        if seen != wanted.version:
            raise VoiceopsError(
                f"the fetched livekit-server says it is {seen or 'not runnable here'}, not {wanted.version}"
            )
    binary.replace(wanted.target)


def _check_foreign(binary: Path, wanted: _Wanted) -> None:
    made_for = machine_of(binary)
    if made_for != wanted.machine:
        raise VoiceopsError(f"the fetched livekit-server is made for {made_for}, not {wanted.machine}")
    version = go_module_version(binary, MODULE)
    # Release archives are built from a checkout and may name none: there the checksum vouches for it.
    if version not in (None, wanted.version):
        raise VoiceopsError(f"the fetched livekit-server says it is {version}, not {wanted.version}")


def _build(wanted: _Wanted, on_progress: OnProgress) -> None:
    go = go_command(on_progress)
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=wanted.target.parent))
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
    if wanted.machine:
        environment |= _cross(go, folder, wanted.machine)
        made = folder / "bin" / f"linux_{environment['GOARCH']}" / "server"
    else:
        environment["GOBIN"] = str(folder)
        made = folder / "server"
    command = [str(go), "install", "-v", "-trimpath", "-ldflags", "-s -w", f"{PACKAGE}@v{wanted.version}"]
    try:
        code, tail = _run_with_progress(command, environment, on_progress)
        if code:
            raise VoiceopsError(
                f"go install of livekit-server {wanted.version} failed: {' / '.join(tail[-3:])}"
            )
        _install(made, wanted)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cross(go: Path, folder: Path, machine: str) -> dict[str, str]:
    """Go refuses GOBIN for another platform, so its GOPATH moves; what it has fetched stays in use."""
    if machine not in ("x86_64", "aarch64"):
        raise VoiceopsError(f"no build for {machine}")
    asked = subprocess.run(
        [str(go), "env", "GOMODCACHE"], capture_output=True, text=True, timeout=20, check=False
    )
    if asked.returncode:
        raise VoiceopsError(f"go env failed: {asked.stderr.strip()[-300:]}")
    modules = asked.stdout.strip()
    system = {"GOOS": "linux", "GOARCH": _GO_NAMES[machine], "GOBIN": ""}
    return system | {"GOPATH": str(folder), "GOMODCACHE": modules}


def _run_with_progress(
    command: list[str], environment: dict[str, str], on_progress: OnProgress
) -> tuple[int, list[str]]:
    """Run ``go install -v``: it prints a line for each module and package."""
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise VoiceopsError(f"{command[0]} can't be run: {error.strerror}") from error
    limit = threading.Timer(BUILD_TIMEOUT_S, process.kill)
    limit.start()
    lines: list[str] = []
    try:
        assert process.stderr is not None
        for count, line in enumerate(process.stderr, start=1):
            lines = [*lines[-9:], line.strip()]
            on_progress(Progress(doing="building livekit-server with go", done=count, unit="packages"))
        return process.wait(), lines
    finally:
        limit.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
