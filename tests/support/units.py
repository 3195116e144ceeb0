"""Units of commands, as their kind writes them."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.kinds.command import KIND, CommandService
from voiceops.kinds.program import program_unit
from voiceops.model.settings import Settings
from voiceops.systemd.units import UnitFile, UnitWriter


def command_unit(
    units: UnitWriter, name: str, service: CommandService, *, cwd: str, completed: Sequence[str] = ()
) -> UnitFile:
    program = KIND.program(service, Settings(project="test"), "")
    return program_unit(units, name, service, program, cwd=cwd, completed=completed)
