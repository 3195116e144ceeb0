"""What a program is made for, read from its file: one of another architecture can't be asked."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""``e_machine`` of the ELF header, in the words of ``uname -m``."""


def machine_of(program: Path) -> str:
    """The architecture of a Linux program; what else it is where it is none."""
    with program.open("rb") as file:
        header = file.read(20)
    if header[:4] != b"\x7fELF" or len(header) < 20:
        return "something other than Linux"
    number = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    return _MACHINES.get(number, f"architecture {number}")


def go_module_version(program: Path, module: str) -> str | None:
    """The version of the main module that Go wrote into the program; None where it wrote none.

    A build from a checkout says ``(devel)``: that is none.
    """
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"\nmod\t" + re.escape(module.encode()) + rb"\tv([^\t\n]+)", content)
        return found[1].decode() if found else None
