"""Prove by a real call that the agent answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from voiceops.calls.text import one_call
from voiceops.cli.command import CommandRun
from voiceops.errors import ServiceError
from voiceops.wiring.agent_calls import agent_calls
from voiceops.wiring.why import why_of

if TYPE_CHECKING:
    from voiceops.model.documents.common import CallEntry


def verified_call(run: CommandRun) -> CallEntry:
    """Place one call; ``ServiceError`` with the most likely cause if the agent is not heard."""

    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    heard = agent_calls().to(run.project.hosts, why=why_of(run.project))
    entry = heard.as_json()
    if heard.ok:
        return entry
    causes = (heard.verdict or {}).get("findings") or [{}]
    raise ServiceError(
        f"all services are ready, and yet a call was not answered: {causes[0].get('cause') or one_call(heard)}",
        hint="fix it, then `inv start --verify` again" if causes[0] else "`inv why` looks for the cause",
        log_tail=tuple(causes[0].get("evidence", ())),
        data={"call": entry},
    )
