"""The real things that contracts are checked on."""

from __future__ import annotations

from tests.integration.conftest import host, host_run

__all__ = ["host", "host_run"]
