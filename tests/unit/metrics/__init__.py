"""Tests of voiceops.metrics."""
