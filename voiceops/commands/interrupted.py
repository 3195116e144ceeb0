"""Say what an interrupted command left running, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from voiceops.cli.command import CommandRun
from voiceops.errors import VoiceopsError
from voiceops.stack import operations
from voiceops.wiring.stack import build_stack


@contextmanager
def reporting_interrupt(run: CommandRun, *, go_on: str) -> Iterator[None]:
    """On Ctrl-C say which services do not run and that the command ``go_on`` finishes the work; raise again."""
    try:
        yield
    except KeyboardInterrupt:
        for host in run.project.hosts:
            if not host.local:
                run.say(f"{host.name}: `inv check-running --host {host.name}` shows what runs now")
                continue
            try:
                with closing(build_stack(run.project, host)) as stack:
                    verdicts = operations.check(stack)
            except VoiceopsError as error:
                run.say(f"{host.name}: its state is not known: {error.message}")
                continue
            states = ", ".join(f"{name} is {verdict.state}" for name, verdict in verdicts.items())
            run.say(f"{states}; `inv {go_on}` goes on from there")
        raise
