"""An agent that answers calls: with a cloud's ears, mind and voice where keys are set in
.env, and without any account too: then it greets in speech and plays back what you say.
"""

from __future__ import annotations

from livekit.agents import Agent, AgentServer, JobContext, StopResponse, cli, llm

from voiceops.agentkit import Call, guarded_entrypoint, heard, speech_from_environment

INSTRUCTIONS = "You are a friendly voice agent. Answer in one or two short sentences, without any markup."
GREETING = "Hello. This is your voice agent. How can I help you?"
OFFLINE_GREETING = "Hello. This is your voice agent. Say something, and I will repeat it."

server = AgentServer()
speech = speech_from_environment()


class Assistant(Agent):
    """What the agent says; this is the class to change."""

    def __init__(self) -> None:
        super().__init__(instructions=INSTRUCTIONS)

    async def on_enter(self) -> None:
        self.session.say(OFFLINE_GREETING if speech.offline else GREETING)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        ears = heard(self.session)
        if ears is None:
            return  # the model answers
        self.session.say("You said:")
        self.session.say(new_message.text_content or "", audio=ears.playback())
        raise StopResponse


@server.rtc_session()
@guarded_entrypoint
async def entrypoint(ctx: JobContext, call: Call[None]) -> None:
    """One call."""
    session = speech.session()

    async def greet_again() -> None:
        session.say("Welcome back.")

    call.on_return(greet_again)
    await call.start(session, Assistant())


if __name__ == "__main__":
    cli.run_app(server)
