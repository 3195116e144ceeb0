"""A project for the tests of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.declarations import declaration_context
from voiceops.kinds.model import DeclarationContext


@pytest.fixture
def context(tmp_path: Path) -> DeclarationContext:
    return declaration_context(tmp_path)
