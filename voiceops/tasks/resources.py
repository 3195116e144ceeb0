"""For tasks of one's own: bring hosts to a list of resources, with the flags, output and exit codes of every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voiceops.model.settings import Host
    from voiceops.resources import Resource


def bring_hosts(
    run: CommandRun, resources: Callable[[Host], Sequence[Resource]], *, reason: str, accept_new: bool = False
) -> Report:
    """The selected hosts as ``resources(host)`` declares; honours --check, --diff and --json.

    Exit codes: 0 as declared; 1 something failed; 2 with --check when something would change;
    4 locked; 5 a host can't be reached. All hosts are tried, whatever happens to one.
    """
    from voiceops.commands.resources import bring_hosts as bring

    return bring(run, resources, reason=reason, accept_new=accept_new)
