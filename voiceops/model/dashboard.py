"""What the dashboard shows, as its feed prints it and as browsers get it: one JSON line for each change.

A section is rows by key. Names of rooms, identities and sentences are anybody's words: whoever shows them shows text.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Row = dict[str, object]
Rows = dict[str, Row]


class SectionChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows of one section that are new or changed, and the keys of those that are gone."""

    rows: dict[str, msgspec.Raw] = {}
    gone: list[str] = []


class FeedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that changed at once; with no section it says only that the feed lives."""

    at: float
    """When it was written, in seconds since the epoch."""
    sections: dict[str, SectionChange] = {}
    reset: bool = False
    """This is all there is: forget what was shown before."""


def changes(before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, SectionChange]:
    """Return what makes ``after`` of ``before``; nothing of sections that are as they were."""
    found: dict[str, SectionChange] = {}
    for section, rows in after.items():
        known = before.get(section, {})
        fresh = {key: _raw(row) for key, row in rows.items() if known.get(key) != row}
        gone = [key for key in known if key not in rows]
        if fresh or gone:
            found[section] = SectionChange(fresh, gone)
    return found


def _raw(row: Row) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(row))
