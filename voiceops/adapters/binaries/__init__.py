"""Find, fetch and build the livekit-server program."""
