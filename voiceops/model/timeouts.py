"""How long a command may take where ``--timeout`` is not given, in seconds."""

from __future__ import annotations

START_S = 120.0
"""``start``, ``stop`` and ``restart``, without the drain."""
RECOVER_S = 600.0
CALL_S = 15.0
"""A call that proves that an agent answers: joins take up to 17 s on a full machine; a healthy one answers in one."""
ROOMS_S = 60.0
CLEANUP_ROOMS_S = 240.0
"""Below the five minutes after which cron starts the next one."""
DEPLOY_S = 300.0
"""``deploy``, ``setup`` and ``rollback``, for each step on a host."""
