"""Be the parent of a program, and write down how it ended: nobody but its parent is told that.

A program of its own, run by path (``python -I -S exit_recorder.py RESULT``): the command that starts a service is gone
when the service ends. What to run comes as JSON by stdin, the pid or the error goes to stdout, and stderr is the
program's log. It is standard library only and imports nothing of voiceops.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def main(result: str) -> int:
    """Run the program, tell its pid, and wait for its end.

    ``result`` is only written where it still is: a stop removes it, and asks nobody how the program ended.
    """
    asked: dict[str, Any] = json.load(sys.stdin)
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
        _tell({"errno": error.errno, "error": error.strerror})
        return 1
    _tell({"pid": child.pid})
    status = child.wait()
    try:
        with open(result, "r+") as file:
            file.write(str(status))
    except OSError:
        return 1  # it counts as a failure: whoever reads it finds nothing
    return 0


def _tell(said: dict[str, object]) -> None:
    print(json.dumps(said), flush=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (
        0,
        1,
        2,
    ):  # neither the terminal nor the log is held open for as long as the program runs
        os.dup2(nothing, descriptor)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
