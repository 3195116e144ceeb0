"""Tests of voiceops.history."""
