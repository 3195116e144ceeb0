"""What a deploy reads from a host: its units, its ledger and the marks on its releases."""

from __future__ import annotations

import msgspec

from voiceops.deploy import ledger
from voiceops.deploy.desired import HostState
from voiceops.remote.messages import HostObservation, HostProbe
from voiceops.stack.model import Observed
from voiceops.stack.systemd import observe


def host_probe(state: HostState) -> HostProbe:
    """Ask for units as the backend sees them, the ledger's current releases, their links, and which are bad."""
    return {
        **observe.host_probe(state.names, state.services),
        "releases": list(state.releases.values()),
    }


def observed_in(state: HostState, found: HostObservation) -> dict[str, Observed]:
    """Return the services of the host as reconcile compares them."""
    return observe.observed(state.names, state.services, found)


def written(state: HostState, found: HostObservation) -> bool:
    """Return whether the ledger has the declared releases as current."""
    return found["current"].get("services", {}) == ledger.as_current(state.services)


def unproved_cause(state: HostState, found: HostObservation) -> str:
    """Return why the declared releases are not proved; empty where they are, or are not current."""
    return found["current"].get("unproved", "") if written(state, found) else ""


def recorded(state: HostState, found: HostObservation) -> bool:
    """Return whether the declared releases are current and proved."""
    return written(state, found) and not unproved_cause(state, found)


def marked_bad(state: HostState, found: HostObservation) -> dict[str, ledger.LedgerEntry]:
    """Return each service whose declared release is marked bad, with the entry that says so."""
    entries = {release: msgspec.convert(entry, ledger.LedgerEntry) for release, entry in found["bad"].items()}
    return {name: entries[release] for name, release in state.releases.items() if release in entries}
