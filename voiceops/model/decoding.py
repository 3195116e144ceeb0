"""Structs that several threads decode."""

from __future__ import annotations

import msgspec


def prepare(*types: object) -> None:
    """Build what msgspec knows of these types, while one thread alone is at work: when their module is imported.

    It is built on first use otherwise, in steps between which other threads run; one that meets it half
    built ends the interpreter with SIGSEGV (seen in `inv why`, whose observations run side by side).
    """
    for one in types:
        msgspec.json.Decoder(one)
