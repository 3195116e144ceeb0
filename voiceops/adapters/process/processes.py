"""Processes of this machine: who they are, who they belong to, how they end.

A process is named by ``ProcessKey``: its pid and the mark of its start (boot id and clock
ticks since boot on Linux), so a recycled pid is never taken for ours, and a wall clock
that jumps changes nothing. Signals go through a pidfd that is opened before the mark is
compared: the process can't be exchanged in between.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from voiceops.adapters.process import exit_recorder
from voiceops.adapters.process.table_entry import LINUX, Process, ProcessKey
from voiceops.errors import ServiceError, StorageError

if not LINUX:
    from voiceops.adapters.process import portable

_HERTZ = os.sysconf("SC_CLK_TCK")


def is_stopped(pid: int) -> bool:
    """Whether the kernel has stopped it (SIGSTOP, a debugger): no signal but SIGKILL reaches it."""
    if not LINUX:
        return portable.is_stopped(pid)
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])


def is_frozen(pid: int) -> bool:
    """Whether it was stopped by a signal; one that a debugger holds for a moment is not frozen."""
    if not LINUX:
        return portable.is_stopped(pid)
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] == [b"T"]


def boot_clock() -> float:
    """Seconds since boot, sleep included: shared by all processes, and never set by hand."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if LINUX else time.monotonic()


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Tells this boot from others; empty where the system has no such name for it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8] if LINUX else ""


def find(pid: int) -> Process | None:
    """The live process with this pid."""
    if pid <= 0:
        return None
    if not LINUX:
        return portable.find(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold blanks and parentheses of its own.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if fields[0] in (b"Z", b"X", b"x"):
        return None
    ticks = int(fields[19])
    return Process(
        key=ProcessKey(pid, f"{boot_id()}:{ticks}"),
        parent=int(fields[1]),
        session=int(fields[3]),
        age_s=max(0.0, boot_clock() - ticks / _HERTZ),
    )


def alive(key: ProcessKey) -> bool:
    """Whether exactly this process lives."""
    process = find(key.pid)
    return process is not None and process.key == key


def table() -> list[Process]:
    """All live processes but the kernel's own."""
    if not LINUX:
        return portable.table()
    found = (find(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process and process.parent != 2 and process.pid != 2]


def environment(pid: int) -> dict[str, str]:
    """The environment it was started with; empty when it is not ours to read."""
    if not LINUX:
        return portable.environment(pid)
    pairs = (item.partition(b"=") for item in _read(f"/proc/{pid}/environ").split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def has_environment(pid: int, text: bytes) -> bool:
    """Whether ``text`` stands in its environment: cheaper than to take all of it apart."""
    if LINUX:
        return text in _read(f"/proc/{pid}/environ")
    return any(text.decode() in f"{name}={value}" for name, value in environment(pid).items())


def command_line(pid: int) -> tuple[str, ...]:
    """Its arguments; empty when it is gone."""
    if not LINUX:
        return portable.command_line(pid)
    data = _read(f"/proc/{pid}/cmdline")
    return tuple(os.fsdecode(part) for part in data.rstrip(b"\0").split(b"\0")) if data else ()


def folder(pid: int) -> Path | None:
    """Its working folder, as far as we may know it."""
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) if LINUX else None
    except OSError:
        return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def ancestors(pid: int) -> set[int]:
    """``pid`` and everything above it: what we must never end."""
    line: set[int] = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        process = find(pid)
        pid = process.parent if process else 0
    return line


def descendants(pid: int, processes: Iterable[Process]) -> list[Process]:
    """Everything below ``pid`` in this table."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log_file: Path,
    ended_file: Path | None = None,
) -> ProcessKey:
    """Start a program that outlives us: own session, no stdin, output appended to a file.

    ``ended_file``: is made empty, and a parent of its own writes down there how it ended: ``ended_status``. Once
    somebody has removed it, nothing is written.

    Until the child has replaced itself by the program it shares our open files, the lock
    among them: whoever gets the lock after we were killed finds the program marked. With
    ``ended_file`` it is that parent which ends the program again when we were killed before we knew its pid.
    """
    if ended_file is not None:
        return _spawn_recorded(argv, env=env, cwd=cwd, log_file=log_file, ended_file=ended_file)
    log = _open_log(log_file)
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise _not_run(argv[0], error.strerror) from error
    finally:
        os.close(log)
    # We wait by pidfd and reap by pid; without this, Popen complains that nobody waited.
    child.returncode = 0
    return _key_of(child.pid)


def _spawn_recorded(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_file: Path, ended_file: Path
) -> ProcessKey:
    log = _open_log(log_file)
    try:
        ended_file.touch(mode=0o600)
        recorder = subprocess.Popen(
            (sys.executable, "-I", "-S", exit_recorder.__file__, str(ended_file)),
            env={},  # without the marks of whoever starts it: it belongs to no service, and ends with its program
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise StorageError(f"can't start {argv[0]}: {error.strerror}", hint="free some space") from error
    finally:
        os.close(log)
    asked = {"argv": list(argv), "env": dict(env), "cwd": str(cwd)}
    line = b""
    if recorder.stdin and recorder.stdout:
        with suppress(BrokenPipeError), recorder.stdin as requests, recorder.stdout as answers:
            requests.write(json.dumps(asked).encode() + b"\n")
            requests.flush()
            line = answers.readline()
            requests.write(b"arrived\n")
    recorder.wait()  # it has left the work to a process of its own
    said = json.loads(line or b'{"error": "its parent has ended"}')
    if "pid" not in said:
        raise _not_run(argv[0], said["error"])
    return _key_of(said["pid"])


def ended_status(ended_file: Path, *, patience_s: float) -> int | None:
    """How a program ended that was started with this file: its exit code, negative for a signal; None: nobody knows.

    ``patience_s``: its parent writes that down a moment after the end.
    """
    ends_at = time.monotonic() + patience_s
    while True:
        try:
            text = ended_file.read_text()
        except OSError:
            return None
        if text or time.monotonic() >= ends_at:
            return int(text) if text else None
        time.sleep(0.01)


def _open_log(log_file: Path) -> int:
    try:
        return os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        raise StorageError(
            f"can't write the log {log_file}: {error.strerror}",
            hint="free some space, or fix the folder's rights",
        ) from error


def _not_run(program: str, why: str | None) -> ServiceError:
    return ServiceError(
        f"can't run {program}: {why}",
        hint="check the service's command in the inventory: the program must exist and be executable",
    )


def _key_of(pid: int) -> ProcessKey:
    process = find(pid)
    return process.key if process else ProcessKey(pid, "gone")


def exit_status(pid: int, *, patience_s: float = 0.0) -> int | None:
    """Reap our own child: its exit code, negative for a signal, None while it lives or is another's.

    A process whose first thread has ended looks dead before its other threads are gone, and can't
    be reaped until then: ``patience_s`` waits for them.
    """
    ends_at = time.monotonic() + patience_s
    while True:
        try:
            reaped, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if reaped or time.monotonic() >= ends_at:
            return os.waitstatus_to_exitcode(status) if reaped else None
        time.sleep(0.01)


def open_pidfd(key: ProcessKey) -> int | None:
    """A descriptor that becomes readable when the process ends; None when it is gone already."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(key.pid)
    except OSError:
        return None
    if alive(key):
        return descriptor
    os.close(descriptor)
    return None


def send_signal(key: ProcessKey, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone."""
    descriptor = open_pidfd(key)
    try:
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
        elif alive(key):
            os.kill(key.pid, number)
        else:
            return False
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise ServiceError(
            f"process {key.pid} belongs to another user", hint="run the same command as that user or as root"
        ) from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def wait_gone(keys: Iterable[ProcessKey], timeout_s: float) -> list[ProcessKey]:
    """Wait until all are gone; returns who is still there. A death is seen at once (pidfd)."""
    waiting = list(keys)
    ends_at = time.monotonic() + timeout_s
    while True:
        for key in waiting:
            exit_status(key.pid)  # a dead child of our own stays a zombie until it is reaped
        waiting = [key for key in waiting if alive(key)]
        left = ends_at - time.monotonic()
        if not waiting or left <= 0:
            return waiting
        _wait_for_one(waiting, left)


def _wait_for_one(keys: Sequence[ProcessKey], timeout_s: float) -> None:
    poller = select.poll()
    descriptors = [fd for fd in map(open_pidfd, keys) if fd is not None]
    if len(descriptors) < len(keys):  # gone in between, or no pidfd on this system
        timeout_s = min(timeout_s, 0.02)
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    try:
        poller.poll(max(1, int(min(timeout_s, 3600.0) * 1000)))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def kill_all(keys: Iterable[ProcessKey], timeout_s: float = 5.0) -> list[ProcessKey]:
    """SIGKILL them and wait; returns who is still there. Never touches us or what we run in."""
    ours = ancestors(os.getpid())
    victims = [key for key in keys if key.pid not in ours]
    for key in victims:
        send_signal(key, signal.SIGKILL)
    return wait_gone(victims, timeout_s)
