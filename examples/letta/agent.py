"""An agent whose answers come from a Letta agent, which remembers. Whatever Letta does, every call is answered.

Without a model in Letta, and while Letta is away, it says so in its greeting and goes on with plain replies.
"""

from __future__ import annotations

import asyncio
import logging
import os

from livekit.agents import Agent, AgentServer, JobContext, StopResponse, cli, llm

from voiceops.agentkit import (
    CacheError,
    Call,
    LettaClient,
    LettaConversation,
    LettaError,
    MissingPackageError,
    Speech,
    cached,
    guarded_entrypoint,
    heard,
    speech_from_environment,
)

INSTRUCTIONS = (
    "You are a friendly voice agent on the phone. Answer in one or two short sentences, without any markup. "
    "Text in square brackets is a note of the phone system, not what the caller said."
)
GREETING = "Hello. This is your voice agent. How can I help you?"
NO_MODEL_GREETING = (
    "Hello. This is your voice agent. No language model is set up yet, so I can only give plain replies. "
    "Say something, and I will repeat it."
)
AWAY_GREETING = (
    "Hello. This is your voice agent. My memory is out of reach right now, so I can only give plain replies. "
    "Say something, and I will repeat it."
)
ONE_MOMENT = "One moment, please."

PATIENCE_S = 1.0
"""A caller waits no longer for Letta before the greeting; connecting and the session take another second."""
FILL_AFTER_S = 2.0
ANSWER_TIMEOUT_S = 12.0

server = AgentServer()
letta = LettaClient(
    url=os.environ.get("LETTA_URL", "http://127.0.0.1:8283"),
    token=os.environ.get("LETTA_PASSWORD", ""),
    name=os.environ.get("LETTA_AGENT", "voice"),
    model=os.environ.get("LETTA_MODEL", ""),
    instructions=INSTRUCTIONS,
)


def choose_speech() -> Speech:
    """Ears and voice of the cloud where there are keys and packages, else those on board."""
    environment = dict(os.environ)
    if environment.get("OPENAI_BASE_URL"):
        environment.pop("OPENAI_API_KEY", None)  # of another server, which mostly has no ears and no voice
    try:
        return speech_from_environment(environment)
    except MissingPackageError as error:
        logging.getLogger(__name__).warning("it hears and speaks by what is on board: %s", error)
        return speech_from_environment({})


speech = choose_speech()


@cached(ttl_s=30, timeout_s=PATIENCE_S, max_stale_s=86_400)
async def letta_agent() -> str:
    """The id of the Letta agent, empty without a model: asked for once in 30 s, however many call."""
    return await letta.agent_id()


@server.on("worker_registered")
def prepare(*_: object) -> None:
    """Let Letta make its agent before the first call, as soon as Letta is there."""
    preparing.add(task := asyncio.ensure_future(until_prepared()))
    task.add_done_callback(preparing.discard)


preparing: set[asyncio.Task[None]] = set()


async def until_prepared() -> None:
    """Ask until Letta answers; ``cached`` leaves it alone between two tries."""
    while True:
        try:
            await letta_agent()
        except (LettaError, CacheError):
            await asyncio.sleep(2)
        else:
            return


class Assistant(Agent):
    """What the agent says; this is the class to change."""

    def __init__(self, agent_id: str | None) -> None:
        super().__init__(instructions=INSTRUCTIONS)
        self._agent_id = agent_id
        self._talk: LettaConversation | None = None

    async def on_enter(self) -> None:
        self.session.say(
            AWAY_GREETING if self._agent_id is None else GREETING if self._agent_id else NO_MODEL_GREETING
        )

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        said = new_message.text_content or ""
        ears = heard(self.session)
        answering = asyncio.ensure_future(self._answer(f"[{said}, not understood]" if ears else said))
        try:
            done, _ = await asyncio.wait({answering}, timeout=FILL_AFTER_S)
            if not done:
                self.session.say(ONE_MOMENT)
            self.session.say(await answering)
        except (LettaError, CacheError):
            self.session.say("You said:")
            if ears:
                self.session.say(said, audio=ears.playback())
            else:
                self.session.say(said)
        finally:
            answering.cancel()  # no effect once it is done
        raise StopResponse

    async def _answer(self, said: str) -> str:
        if self._talk is None:
            agent_id = await letta_agent()
            if not agent_id:
                raise LettaError("Letta has no model")
            self._talk = letta.conversation(agent_id)
        return await self._talk.answer(said, timeout_s=ANSWER_TIMEOUT_S)


@server.rtc_session()
@guarded_entrypoint(load=letta_agent, fallback=None, load_timeout_s=PATIENCE_S)
async def entrypoint(ctx: JobContext, call: Call[str | None]) -> None:
    """One call; ``call.data`` is the id of the Letta agent, None when Letta did not answer in time."""
    await call.start(speech.session(llm=None), Assistant(call.data))


if __name__ == "__main__":
    cli.run_app(server)
