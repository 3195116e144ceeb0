"""What the dashboard's commands say of themselves, read from their JSON documents."""

from __future__ import annotations

from typing import Union

import msgspec

from voiceops.model.dashboard import Row


class ActionOutcome(msgspec.Struct, frozen=True):
    """What a command said of itself."""

    text: str
    needs_yes: bool = False
    """It would drop calls, or can't know: it does so with ``--yes`` only."""


class _CommandError(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""
    hint: str = ""


class _AppliedFix(msgspec.Struct, frozen=True):
    command: str = ""
    done: bool = False
    detail: str = ""


class _ServiceOutcome(msgspec.Struct, frozen=True):
    state: str = ""
    changed: bool = False
    error: Union[_CommandError, None] = None


class _HostOutcome(msgspec.Struct, frozen=True):
    error: Union[_CommandError, None] = None
    fixes: list[_AppliedFix] = []
    problems: list[str] = []
    services: dict[str, _ServiceOutcome] = {}


class _CommandDocument(msgspec.Struct, frozen=True):
    """What is read of the documents of `inv why`, `inv restart` and `inv cleanup-rooms`."""

    error: Union[_CommandError, None] = None
    hosts: dict[str, _HostOutcome] = {}
    deleted: list[msgspec.Raw] = []
    kept: list[msgspec.Raw] = []
    findings: list[Row] = []


def read_outcome(action: str, code: int, output: bytes) -> ActionOutcome:
    """Return what a command has done, from its document."""
    try:
        document = msgspec.json.decode(output, type=_CommandDocument)
    except msgspec.DecodeError:
        return ActionOutcome(f"The command ended with exit code {code} and said nothing.")
    hosts = document.hosts.values()
    services = [(name, one) for host in hosts for name, one in host.services.items()]
    errors = [document.error, *(host.error for host in hosts), *(one.error for _, one in services)]
    found = [one for one in errors if one is not None]
    if found:
        text = " ".join(filter(None, (found[0].message, f"({found[0].hint})" if found[0].hint else "")))
        return ActionOutcome(text, found[0].type in ("CallsInProgressError", "CallsUnknownError"))
    if action == "cleanup-rooms":
        return ActionOutcome(f"{len(document.deleted)} rooms deleted, {len(document.kept)} kept.")
    if action == "fix":
        fixes = [fix for host in hosts for fix in host.fixes]
        lines = [
            f"{'done' if fix.done else 'not done'}: {fix.command}{f' ({fix.detail})' if fix.detail else ''}"
            for fix in fixes
        ]
        return ActionOutcome("; ".join(lines) or "Nothing to fix.")
    return ActionOutcome(", ".join(f"{name} is {one.state}" for name, one in services) or f"exit code {code}")


def read_findings(output: bytes) -> tuple[dict[str, Row], str]:
    """Return the findings of `inv why` in their order, and what could not be observed."""
    try:
        document = msgspec.json.decode(output, type=_CommandDocument)
    except msgspec.DecodeError:
        return {}, "The diagnosis could not be read: run `inv why`."
    problems = [one for host in document.hosts.values() for one in host.problems]
    errors = [document.error, *(host.error for host in document.hosts.values())]
    problems += [one.message for one in errors if one is not None]
    return {f"{number:04d}": row for number, row in enumerate(document.findings)}, "; ".join(problems)
