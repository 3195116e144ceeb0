"""Scheduled jobs: plan them, and install them as timers or cron entries."""
