"""``python -m voiceops.agentkit start ENTRY``: runs a livekit-agents worker with the outer pieces."""

from __future__ import annotations

import sys
from typing import NoReturn

# First of all: the imports that follow take more than a second, and until a handler
# stands a SIGTERM kills the process half way.
from voiceops.agentkit import signals

_stop = signals.install()


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run the worker until it is told to stop."""
    import argparse
    import gc

    # The imports make many objects and no garbage: looking for it takes an eighth of them. The runner
    # enables it again.
    gc.disable()

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            # argparse's own 2 means "not as declared" everywhere else in voiceops.
            self.exit(3, f"error: {message}\nhint: see `{self.prog} --help`\n")

    parser = Parser(
        prog="python -m voiceops.agentkit",
        description="Runs an agent with readiness, watchdog, /health, /metrics and a limit on its calls.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser(
        "start",
        help="run the AgentServer that a file defines",
        epilog="example: python -m voiceops.agentkit start agent.py --health-port 9090",
    )
    start.add_argument("entry", metavar="ENTRY", help="Python file that defines the AgentServer")
    start.add_argument("--agent-name", help="name for explicit dispatch; wins over the one in the code")
    start.add_argument(
        "--drain-timeout", type=float, help="seconds that calls may last after SIGTERM (0: forever)"
    )
    start.add_argument("--health-port", type=int, help="TCP port on loopback for /health and /metrics")
    start.add_argument("--max-jobs", type=int, help="calls at once; offers beyond that go to other workers")
    start.add_argument("--log-level", default="INFO")
    start.add_argument("--log-format", choices=["json", "colored"], default="json")
    arguments = parser.parse_args(argv)

    from voiceops.agentkit.runner import run

    return run(arguments, _stop)


if __name__ == "__main__":
    sys.exit(main())
