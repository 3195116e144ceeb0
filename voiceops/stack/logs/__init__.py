"""Logs of services: files, rotation, journald."""
