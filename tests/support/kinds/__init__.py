"""Kinds of service that only tests have."""
