"""``did you mean``: the known name that a mistyped one resembles."""

from __future__ import annotations

from collections.abc import Iterable


def edits(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two names."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        two_before, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != other))
            if i > 1 and j > 1 and char == b[j - 2] and a[i - 2] == other:
                cost = min(cost, two_before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def resembles(name: str, known: str) -> bool:
    """Whether ``name`` is so close to ``known`` that a typing mistake is likelier than a name of its own."""
    allowed = 1 if len(known) <= 6 else 2
    one, other = _comparable(name), _comparable(known)
    return abs(len(one) - len(other)) <= allowed and edits(one, other) <= allowed


def closest(name: str, known: Iterable[str]) -> str | None:
    """The best match among ``known``, or None when nothing comes near."""
    words = {word: _comparable(word) for word in known}
    text = _comparable(name)
    ranked = sorted((edits(text, comparable), word) for word, comparable in words.items())
    if ranked and ranked[0][0] <= max(2, len(text) // 3):
        return ranked[0][1]
    # A forgotten unit (``drain_timeout`` for ``drain_timeout_s``) or a shortened name.
    related = [
        word for word, other in words.items() if text and (other.startswith(text) or text.startswith(other))
    ]
    return related[0] if related else None


def _comparable(name: str) -> str:
    return name.lower().replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint: the likely name, else all of them."""
    words = list(known)
    best = closest(name, words)
    if best is not None:
        return f"did you mean {best!r}?"
    return "known here: " + ", ".join(sorted(words)) if words else "nothing is known here"
