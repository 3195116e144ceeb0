"""`inv logs`: the lines of all services as one stream."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence

from voiceops.cli.command import Run
from voiceops.commands.logs_view import Printer, last
from voiceops.errors import StorageError, UsageError
from voiceops.stack.local.folder import Folder
from voiceops.stack.logs import files as log_files
from voiceops.stack.reconcile import choose
from voiceops.wiring.stack import build_stack

_PAUSE_S = 0.2


def show_logs(
    run: Run, *, only: Sequence[str], follow: bool, since: str, count: int, raw: bool = False
) -> None:
    """Print what is there, then, with ``follow``, what comes.

    ``count``: at most so many of the last lines, 0: all, each as it is read. ``--json`` prints one
    document; while following, one object per line.
    """
    if not all(host.local for host in run.project.hosts):
        # ssh and journals: the logs of this machine need neither.
        from voiceops.commands.server_logs import show_server_logs

        show_server_logs(run, only=only, follow=follow, since=since, count=count, raw=raw)
        return
    folder = Folder(run.project.root)
    files = []
    for host in run.project.hosts:
        chosen = choose(build_stack(run.project, host).outline, only)
        with contextlib.suppress(StorageError):  # a full disk is when the logs are needed most
            log_files.rotate_all(folder.logs, chosen)
        for service in chosen:
            files.append((service.name, folder.log_file(service.name), service.log_keep))
    try:
        start = log_files.parse_since(since, time.time()) if since else 0.0
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
    followers = [log_files.Follower(name, path) for name, path, _ in files] if follow else []
    printer = Printer(run, [name for name, _, _ in files], raw=raw)
    try:
        printer.show_all(last(log_files.merged(files, start), count), document=not follow)
        while follow:
            fresh = [line for follower in followers for line in follower.read()]
            for line in sorted(fresh, key=lambda line: line.at):
                printer.show(line)
            sys.stdout.flush()
            time.sleep(_PAUSE_S)
    except KeyboardInterrupt:
        return
    finally:
        for follower in followers:
            follower.close()
