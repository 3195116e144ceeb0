"""Read the ledger of a host: which releases were deployed, which ones serve, which are bad."""

from __future__ import annotations

import glob
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from voiceops.remote.messages import CurrentReleases, LedgerLine


def current_releases(state_dir: str) -> CurrentReleases:
    """Return what the last deploy left in service; with ``unproved``, why nobody has proved that it answers calls."""
    try:
        with open(state_dir + "/current.json") as file:
            found = json.load(file)
        found["services"] = {
            name: {key: one.get(key, "") for key in ("release", "digest")}
            for name, one in found["services"].items()
            if isinstance(one, dict)
        }
        document: CurrentReleases = found
        return document
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def release_history(state_dir: str) -> list[LedgerLine]:
    """Return all entries, oldest first, with fields that another version wrote. A line that a crash cut is left out."""
    entries: list[Any] = []
    try:
        with open(state_dir + "/releases.jsonl") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    if all(isinstance(entry[key], str) for key in ("service", "release", "result")):
                        entries.append(entry)
                except (ValueError, KeyError, TypeError):
                    continue
    except FileNotFoundError:
        pass
    return entries


def bad_releases(state_dir: str, releases: list[str]) -> dict[str, LedgerLine]:
    """Of these releases, return the entries of those whose last word is bad."""
    last = {entry["release"]: entry for entry in release_history(state_dir) if entry["release"] in releases}
    return {release: entry for release, entry in last.items() if entry["result"] == "bad"}


def release_links(opt: str) -> dict[str, str]:
    """Return where each ``current/SERVICE`` leads."""
    links = filter(os.path.islink, glob.glob(opt + "/current/*"))
    return {os.path.basename(path): os.readlink(path) for path in links}
