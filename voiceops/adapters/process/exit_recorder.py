"""Be the parent of a program, and write down how it ended: nobody but its parent is told that.

A program of its own, run by path (``python -I -S exit_recorder.py RESULT``): the command that starts a service is gone
when the service ends. What to run comes as a line of JSON by stdin, the pid or the error goes to stdout, and stderr is
the program's log. A second line says that the pid has arrived; where whoever asks is killed before that, the program is
ended again. It is standard library only and imports nothing of voiceops.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any


def main(result: str) -> int:
    """Run the program, tell its pid, and wait for its end, all in a process that nobody has to reap.

    ``result`` is only written where it still is: a stop removes it, and asks nobody how the program ended.
    """
    if os.fork():
        return 0
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    try:
        child = subprocess.Popen(
            asked["argv"],
            env=asked["env"],
            cwd=asked["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )
    except OSError as error:
        print(json.dumps({"error": error.strerror}))
        return 1
    try:
        print(json.dumps({"pid": child.pid}), flush=True)
        arrived = bool(sys.stdin.readline())
    except BrokenPipeError:
        arrived = False
    if not arrived:
        # The lock of the stack is free already: somebody else may be starting the service.
        os.killpg(child.pid, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    # The log, and whoever started it, are not held for as long as the program runs.
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    status = child.wait()
    try:
        with open(result, "r+") as file:
            file.write(str(status))
    except OSError:
        return 1  # it counts as a failure: whoever reads it finds nothing
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
