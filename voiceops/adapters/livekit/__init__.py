"""LiveKit's server API, its messages, tokens and WebRTC client."""
