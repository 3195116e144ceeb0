"""STT, LLM and TTS of an agent, from its environment or offline."""
