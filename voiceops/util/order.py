"""The order of things that need each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class CircularNeedsError(Exception):
    """Things need each other in a circle: nothing comes first."""

    def __init__(self, circle: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(circle))
        self.circle = circle


def needed_first(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The keys, each behind what it needs, otherwise in the order given; a need that is no key is left out.

    ``graphlib`` gives an order as well, but another one than people have written.
    """
    done: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise CircularNeedsError((*above[above.index(name) :], name))
        if name in needs and name not in done:
            for need in needs[name]:
                visit(need, (*above, name))
            done[name] = None

    for name in needs:
        visit(name, ())
    return list(done)
