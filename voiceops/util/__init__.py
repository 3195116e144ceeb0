"""Helpers without a subject: suggestions, cache folders, the event loop."""
