"""The lock of a host, and how a run holds it."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call, held_call
from voiceops.remote.messages import LeaseRequest, LockRequest


def default_owner() -> str:
    """Who holds a lock, for those who meet it."""
    return f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})"


def state_folder(project: str) -> str:
    """Journal, lock and blobs of a project on its hosts."""
    return f"/var/lib/{project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How a run holds the host's lock. One token over several runs makes them one deploy."""

    owner: str = field(default_factory=default_owner)
    reason: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    lease_s: float = 60.0
    """How long the lock stays after a run, or after the death of its owner, when it is held on."""
    hold: bool = False
    """Keep the lock for the next run of the same token."""
    wait_s: float = 0.0
    """How long to wait for somebody else's lock."""

    def request(self, *, hold: bool = False, force: bool = False) -> LeaseRequest:
        return {
            "owner": self.owner,
            "reason": self.reason,
            "token": self.token,
            "lease_s": self.lease_s,
            "hold": self.hold or hold,
            "wait_s": self.wait_s,
            "force": force,
        }


@contextlib.contextmanager
def locked(transport: Transport, project: str, lease: Lease, *, stay_s: float) -> Iterator[None]:
    """Hold the host's lock until the block ends, this process dies, or ``stay_s`` is over."""
    with held_call(transport, verbs.LOCK, _lock_request(project, lease.request(), stay_s)):
        yield


def take_lock(transport: Transport, project: str, lease: Lease) -> None:
    """Hold the lock without a run; ``LockedError`` names who has it."""
    call(transport, verbs.LOCK, _lock_request(project, lease.request(hold=True)))


def release_lock(transport: Transport, project: str, *, token: str = "", force: bool = False) -> None:
    """Release a lock held by ``token``; with ``force``, anybody's that no run is using."""
    lease = Lease(token=token or secrets.token_hex(8))
    call(transport, verbs.LOCK, _lock_request(project, lease.request(force=force)))


def _lock_request(project: str, lock: LeaseRequest, stay_s: float = 0.0) -> LockRequest:
    return {"state_dir": state_folder(project), "lock": lock, "stay_s": stay_s}
