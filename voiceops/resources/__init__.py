"""Desired state on hosts: resources as data, one payload that brings a host there, reports of what it did.

Also a toolkit for tasks of one's own: see docs/resources.md and examples/harden.
"""

from __future__ import annotations

from voiceops.remote.lease import Lease, default_owner, locked, release_lock, take_lock
from voiceops.resources.bare import install_python
from voiceops.resources.client import applied, apply, check, read_facts
from voiceops.resources.files import Absent, Blob, Directory, File, Symlink, Template, Tree
from voiceops.resources.model import Content, Resource, State
from voiceops.resources.report import HostReport, ResourceResult
from voiceops.resources.system import Command, CronEntry, Group, Package, Sysctl, Unit, User, Venv

__all__ = [
    "Absent",
    "Blob",
    "Command",
    "Content",
    "CronEntry",
    "Directory",
    "File",
    "Group",
    "HostReport",
    "Lease",
    "Package",
    "Resource",
    "ResourceResult",
    "State",
    "Symlink",
    "Sysctl",
    "Template",
    "Tree",
    "Unit",
    "User",
    "Venv",
    "applied",
    "apply",
    "check",
    "default_owner",
    "install_python",
    "locked",
    "read_facts",
    "release_lock",
    "take_lock",
]
