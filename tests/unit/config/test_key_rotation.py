"""The keys of a rotation in .env, and what is left when it is cut off between two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.config.key_rotation import RotatedKeys, changed_text
from voiceops.config.source.dotenv import Environment, parse
from voiceops.errors import ConfigError

TEXT = """# mine
CRM_TOKEN="a # b"
export LIVEKIT_API_KEY=old
LIVEKIT_API_SECRET='old-secret'
"""


def keys_in(folder: Path) -> RotatedKeys:
    return RotatedKeys(Environment(folder, {}), "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")


def test_a_rotation_leaves_new_keys_and_everything_else_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(TEXT)
    keys = keys_in(tmp_path)
    keys.add_next()
    added = parse(file.read_text())
    keys.add_next()
    assert parse(file.read_text()) == added, "a second call makes no other pair"
    assert (added["LIVEKIT_API_KEY"], added["LIVEKIT_API_SECRET"]) == ("old", "old-secret")
    keys.use_next()
    used = parse(file.read_text())
    assert used == {
        "CRM_TOKEN": "a # b",
        "LIVEKIT_API_KEY": added["LIVEKIT_API_KEY_NEXT"],
        "LIVEKIT_API_SECRET": added["LIVEKIT_API_SECRET_NEXT"],
        "LIVEKIT_API_KEY_PREVIOUS": "old",
        "LIVEKIT_API_SECRET_PREVIOUS": "old-secret",
    }
    keys.drop_previous()
    assert set(parse(file.read_text())) == {"CRM_TOKEN", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"}
    assert len(used["LIVEKIT_API_SECRET"]) >= 32
    assert file.read_text().startswith('# mine\nCRM_TOKEN="a # b"\n')
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_can_not_be_changed_line_by_line_stays_as_it_is(tmp_path: Path) -> None:
    text = "LIVEKIT_API_KEY=old\nNOTE='first\nLIVEKIT_API_KEY=inside'\n"
    with pytest.raises(ConfigError, match="line by line"):
        changed_text(text, {"LIVEKIT_API_KEY": "new"})
