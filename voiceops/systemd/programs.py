"""How programs are run as root on a host."""

from __future__ import annotations


def isolated_python(program: str, *arguments: str) -> list[str]:
    """Return the command that runs ``program`` (text) with the host's Python and nothing of its surroundings.

    ``-I`` and ``-S``: no PYTHON* variable, no current folder, no user's or site's packages, and no ``.pth``
    file in them, can bring other code along. It travels as an argument: stdin may begin with sudo's password.
    """
    return ["python3", "-ISc", program, *arguments]
