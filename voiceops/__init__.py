"""voiceops runs self-hosted LiveKit voice agents: it knows what a call is."""

__version__ = "0.1.0"
