"""The history as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import msgspec

from voiceops.errors import StorageError
from voiceops.history.select import HistoryPart
from voiceops.model.history import RECORD_TYPES
from voiceops.util.times import iso_time

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of text that a spreadsheet would run as a formula."""


def write_csv(file: str, kind: str, parts: Mapping[str, HistoryPart]) -> None:
    """Write one list with a line of headings, all hosts by time; ``StorageError`` if that fails."""
    (record,) = (one for one in RECORD_TYPES if one.table == kind)
    rows = sorted(
        (one for part in parts.values() for one in getattr(part, kind)),
        key=lambda one: float(getattr(one, record.time_column)),
    )
    names = [field.name for field in msgspec.structs.fields(record)]
    try:
        with Path(file).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(names)
            for row in rows:
                writer.writerow([_cell(name, getattr(row, name)) for name in names])
    except OSError as error:
        raise StorageError(f"can't write {file}: {error.strerror or error}") from error


def _cell(name: str, value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and (name == "at" or name.endswith("_at")):
        return iso_time(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
