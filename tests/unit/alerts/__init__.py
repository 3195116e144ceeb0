"""Tests of voiceops.alerts."""
