"""Durations that users rely on are those that the documents tell."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from voiceops.adapters.binaries import fetch
from voiceops.agentkit import cached, loglimit, options, prepare
from voiceops.agentkit.guard import GuardOptions
from voiceops.model import timeouts
from voiceops.rooms import cleanup, waiting

DEFAULTS = [
    (GuardOptions, "load_timeout_s", 3.0),
    (GuardOptions, "connect_timeout_s", 5.0),
    (GuardOptions, "session_timeout_s", 60.0),
    (GuardOptions, "call_timeout_s", None),
    (GuardOptions, "hangup_grace_s", 5.0),
    (GuardOptions, "cleanup_timeout_s", 10.0),
    (cached, "ttl_s", 30.0),
    (cached, "patience_s", 1.0),
    (cached, "timeout_s", 3.0),
    (cached, "retry_after_s", 5.0),
]
SENTENCES = [
    ("docs/agentkit.md", f"in at most {prepare.BUDGET_S:g} s"),
    ("docs/agentkit.md", f"`VOICEOPS_DRAIN_TIMEOUT_S` ({options.DEFAULT_DRAIN_TIMEOUT_S:g};"),
    ("docs/agentkit.md", f"at most {loglimit.LINES_PER_S:g} a second"),
    ("ARCHITECTURE.md", f"is bounded at {fetch.CONNECT_TIMEOUT_S:g} s"),
    ("ARCHITECTURE.md", f"It waits (default {timeouts.START_S:g} s)"),
    ("ARCHITECTURE.md", f"the server is listed {cleanup.SETTLE_S:g} s later"),
    ("ARCHITECTURE.md", f"Waiting polls at {waiting.POLL_S * 1000:g} ms"),
]


@pytest.mark.parametrize(("function", "name", "value"), DEFAULTS)
def test_a_default_of_agentkit_is_the_one_in_its_table(
    function: object, name: str, value: float | None, repository: Path
) -> None:
    assert callable(function)
    assert inspect.signature(function).parameters[name].default == value
    told = "none" if value is None else f"{value:g} s"
    row = rf"^\| `{name}` \| {told} \|"
    assert re.search(row, (repository / "docs/agentkit.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("document", "sentence"), SENTENCES)
def test_a_document_tells_the_value_that_the_code_has(document: str, sentence: str, repository: Path) -> None:
    assert sentence in " ".join((repository / document).read_text().split())
