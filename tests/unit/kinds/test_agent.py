"""The kind ``agent``."""

from __future__ import annotations

from voiceops.kinds.agent import agent_variables


def test_an_agent_gets_what_agentkit_reads_and_is_set() -> None:
    variables = {"CRM_TOKEN": "t", "OPENAI_API_KEY": "k", "DEEPGRAM_API_KEY": ""}
    assert agent_variables(variables) == {"OPENAI_API_KEY": "k"}
