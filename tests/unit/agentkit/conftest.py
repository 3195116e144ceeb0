from __future__ import annotations

from collections.abc import Iterator

import pytest

from voiceops.agentkit import CallEvent, subscribe


@pytest.fixture
def events() -> Iterator[list[CallEvent]]:
    seen: list[CallEvent] = []
    unsubscribe = subscribe(seen.append)
    yield seen
    unsubscribe()
