"""An agent that answers calls without any cloud account: it greets and plays back what you say."""

from __future__ import annotations

from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, StopResponse, cli, llm

from offline import OfflineEars, OfflineVoice
from voiceops.agentkit import Call, guarded_entrypoint

GREETING = "Hello. This is your voice agent. Say something, and I will repeat it."

server = AgentServer()


class Echo(Agent):
    """Greets the caller and repeats what was said, in the caller's own voice."""

    def __init__(self, ears: OfflineEars) -> None:
        super().__init__(instructions="Repeat what the caller says.", stt=ears)
        self._ears = ears

    async def on_enter(self) -> None:
        self.session.say(GREETING)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        if (heard := self._ears.heard) is not None:
            self.session.say("You said:")
            self.session.say(new_message.text_content or "", audio=_frames(heard))
        raise StopResponse


async def _frames(audio: rtc.AudioFrame) -> AsyncIterator[rtc.AudioFrame]:
    yield audio


@server.rtc_session()
@guarded_entrypoint
async def entrypoint(ctx: JobContext, call: Call[None]) -> None:
    session: AgentSession = AgentSession(tts=OfflineVoice(), turn_handling={"turn_detection": "vad"})

    async def greet_again() -> None:
        session.say("Welcome back.")

    call.on_return(greet_again)
    await call.start(session, Echo(OfflineEars()))


if __name__ == "__main__":
    cli.run_app(server)
