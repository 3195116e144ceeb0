"""Text that stays itself in YAML."""

from __future__ import annotations

import json

import pytest
import yaml

from voiceops.model.quoting import json_for_yaml, json_text, printable, printable_lines

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


HOSTILE = "a\x1b[2J\x9b31m\x7f\u202eb\x07"


def test_nothing_in_a_name_draws_on_a_terminal() -> None:
    assert printable(HOSTILE + "\n\udcff") == "a\\x1b[2J\\x9b31m\\x7f\\u202eb\\x07\\n\\udcff"
    assert printable_lines(f"{HOSTILE}\n\tü 日本") == f"{printable(HOSTILE)}\n\tü 日本"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_for_people_is_printable_and_says_the_same(indent: int | None) -> None:
    value = {"room": [HOSTILE, "ü\U000e0001", *AWKWARD]}
    written = json_text(value, indent=indent)
    assert all(line.isprintable() for line in written.split("\n"))
    assert "ü 日本" in written
    assert json.loads(written) == value
