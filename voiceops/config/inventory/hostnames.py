"""Host names as inventories write them: ranges such as ``web[01:10:2]`` and ``name:port``."""

from __future__ import annotations

import ipaddress
import re
import string

_RANGE = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_LABEL = rf"(?:\w|{_RANGE})(?:[\w-]|{_RANGE})*(?<![_-])"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_V6_RANGE = re.compile(r"\[[0-9a-f]+:[0-9a-f]+(?::[0-9]+)?\]", re.IGNORECASE)
_BRACKETED_PORT = re.compile(r"\[(.+)\]:([0-9]+)")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")


def split_port(text: str) -> tuple[str, int | None] | None:
    """``(host, port)`` as Ansible parses an address, ranges allowed; None when it is no address."""
    port = None
    for shape in (_BRACKETED_PORT, _PORT):
        match = shape.fullmatch(text)
        if match:
            text, port = match[1], int(match[2])
    if _HOSTNAME.fullmatch(text) or _is_ipv6(text):
        return text, port
    return None


def _is_ipv6(text: str) -> bool:
    if text.count(":") < 2:
        return False
    try:
        ipaddress.IPv6Address(_V6_RANGE.sub("1", text))
    except ValueError:
        return False
    return True


def expand(pattern: str) -> tuple[list[str], int | None]:
    """The host names that an inventory key stands for, and their port.

    Raises ``ValueError`` with a sentence when a range is malformed.
    """
    name, port = split_port(pattern) or (pattern, None)
    return _expand_ranges(name), port


def _expand_ranges(pattern: str) -> list[str]:
    if "[" not in pattern:
        return [pattern]
    head, _, rest = pattern.partition("[")
    inside, closed, tail = rest.partition("]")
    if not closed:
        raise ValueError("the range has no closing bracket")
    values = _range_values(inside)
    return [name for value in values for name in _expand_ranges(f"{head}{value}{tail}")]


def _range_values(inside: str) -> list[str]:
    bounds = inside.split(":")
    if len(bounds) not in (2, 3):
        raise ValueError("a range is [begin:end] or [begin:end:step]")
    begin, end = bounds[0] or "0", bounds[1]
    if not end:
        raise ValueError("the range has no end")
    width = len(begin) if begin[0] == "0" and len(begin) > 1 else 0
    if width and width != len(end):
        raise ValueError("begin and end of a range with leading zeros must have the same length")
    step = _number(bounds[2]) if len(bounds) == 3 else 1
    if step < 1:
        raise ValueError("the step of a range must be 1 or more")
    letters = string.ascii_letters
    if len(begin) == len(end) == 1 and begin in letters and end in letters:
        first, last = letters.index(begin), letters.index(end)
        if first > last:
            raise ValueError("a range must begin before it ends")
        return list(letters[first : last + 1 : step])
    first, last = _number(begin), _number(end)
    if first > last:
        raise ValueError("a range must begin before it ends")
    return [str(number).zfill(width) for number in range(first, last + 1, step)]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a range goes between two numbers or two letters")
    return int(text)
