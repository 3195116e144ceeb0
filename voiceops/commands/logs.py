"""`inv logs`: the lines of all services as one stream."""

from __future__ import annotations

import contextlib
import sys
import time

from voiceops.cli.command import CommandRun
from voiceops.cli.flags import LogFlags
from voiceops.commands.logs_query import query_of, tell_if_none
from voiceops.commands.logs_view import LogPrinter, last
from voiceops.errors import StorageError
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.logs import files as log_files
from voiceops.stack.reconcile import choose
from voiceops.wiring.stack import build_stack

_PAUSE_S = 0.2


def show_logs(run: CommandRun, flags: LogFlags) -> None:
    """Print what is there, then, with ``follow``, what comes.

    ``--json`` prints one document; while following, one object per line.
    """
    query = query_of(flags)
    if not all(host.local for host in run.project.hosts):
        # ssh and journals: the logs of this machine need neither.
        from voiceops.commands.server_logs import show_server_logs

        show_server_logs(run, query)
        return
    folder = ProjectFolder(run.project.root)
    files = []
    for host in run.project.hosts:
        chosen = choose(build_stack(run.project, host).outline, query.only)
        with contextlib.suppress(StorageError):  # a full disk is when the logs are needed most
            log_files.rotate_all(folder.logs, chosen)
        for service in chosen:
            files.append((service.name, folder.log_file(service.name), service.log_keep))
    followers = [log_files.Follower(name, path) for name, path, _ in files] if query.follow else []
    printer = LogPrinter(run, [name for name, _, _ in files], raw=query.raw)
    try:
        lines = query.filter.select(log_files.merged(files, query.since))
        printer.show_all(last(lines, query.count), document=not query.follow)
        tell_if_none(run, query, printer)
        while query.follow:
            fresh = [line for follower in followers for line in follower.read()]
            for line in query.filter.select(sorted(fresh, key=lambda line: line.at)):
                printer.show(line)
            sys.stdout.flush()
            time.sleep(_PAUSE_S)
    except KeyboardInterrupt:
        return
    finally:
        for follower in followers:
            follower.close()
