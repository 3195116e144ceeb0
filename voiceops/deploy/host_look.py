"""Look at a host: its units, its ledger and the marks on its releases, in the exec that compares its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from voiceops.deploy import ledger
from voiceops.deploy.desired import HostState
from voiceops.remote.onhost import ledger as ledger_onhost
from voiceops.remote.onhost import services
from voiceops.resources import Look
from voiceops.stack.model import Observed
from voiceops.stack.systemd import observe


def host_look(state: HostState) -> Look:
    """Units as the backend sees them, the ledger's current releases, their links, and which are marked bad."""
    program = "\n".join(
        [
            "from __future__ import annotations",
            _code(services.__file__),
            "_look_at_units = look",
            _code(ledger_onhost.__file__),
            "look = lambda asked: {'units': _look_at_units(asked), 'current': current(asked), 'links': links(asked),"
            " 'bad': bad(asked)}",
        ]
    )
    asked = observe.look_request(state.names, state.services)
    releases = list(state.releases.values())
    return Look(program=program, request={**asked, "state": state.names.state, "releases": releases})


def _code(file: str) -> str:
    """A program to be part of another: a future import must stand first."""
    return re.sub(r"^from __future__.*\n", "", Path(file).read_text(), flags=re.MULTILINE)


def observed_in(state: HostState, look: Mapping[str, Any]) -> dict[str, Observed]:
    return observe.observed(state.names, state.services, look["units"])


def written(state: HostState, look: Mapping[str, Any]) -> bool:
    found: Mapping[str, Any] = look["current"]
    return bool(found.get("services", {}) == ledger.as_current(state.services))


def unproved_cause(state: HostState, look: Mapping[str, Any]) -> str:
    return str(look["current"].get("unproved", "")) if written(state, look) else ""


def recorded(state: HostState, look: Mapping[str, Any]) -> bool:
    return written(state, look) and not unproved_cause(state, look)


def marked_bad(state: HostState, look: Mapping[str, Any]) -> dict[str, ledger.LedgerEntry]:
    entries = {release: msgspec.convert(entry, ledger.LedgerEntry) for release, entry in look["bad"].items()}
    return {name: entries[release] for name, release in state.releases.items() if release in entries}
