"""Text that stays itself in YAML."""

from __future__ import annotations

import json

import pytest
import yaml

from voiceops.model.quoting import json_for_yaml

AWKWARD = ["\U0001f600", "ü 日本", "a\x7fb", "\x85\u2028\ufeff", "'\"\\ \n\t", "\x01", "<&>", "%i $(id)"]


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("indent", [None, 1])
def test_what_json_writes_for_yaml_is_read_as_it_was(text: str, indent: int | None) -> None:
    value = {"key " + text: [text, 1, True, None]}
    written = json_for_yaml(value, indent=indent)
    assert written.isascii()
    assert yaml.safe_load(written) == value


def test_plain_text_is_plain_json() -> None:
    assert json_for_yaml({"a": "b c"}) == json.dumps({"a": "b c"})
