"""Fabric and Paramiko, imported in less of their time, for commands that are mostly a connection.

Paramiko asks for its own version by importlib.metadata, which imports the email package and parses a file: 15 ms.
The name of the folder beside it says the same.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any


def _version(package: str) -> str:
    beside = os.path.dirname(os.path.dirname(str(sys.modules[package].__file__)))
    for entry in os.listdir(beside):
        name, _, rest = entry.partition("-")
        if name == package and rest.endswith(".dist-info"):
            return rest.removesuffix(".dist-info")
    del sys.modules["importlib.metadata"]
    from importlib import metadata

    return metadata.version(package)


def _import() -> tuple[Any, Any]:
    name = "importlib.metadata"
    stand_in = ModuleType(name)
    stand_in.version = _version  # type: ignore[attr-defined]
    module = sys.modules.setdefault(name, stand_in)
    try:
        import fabric
        import paramiko
    finally:
        if module is stand_in and sys.modules.get(name) is stand_in:
            del sys.modules[name]
    return fabric, paramiko


fabric, paramiko = _import()
