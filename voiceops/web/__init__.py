"""The page for callers, and the API that gives each of them a room with an agent."""
