"""``.env``: what a line means, and that a mistake names its line and never its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.config.source.dotenv import Environment, parse
from voiceops.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("A = spaced ", "spaced"),
        ("export A=exported", "exported"),
        ("  A=indented  # comment", "indented"),
        ("A=with#hash", "with#hash"),
        ("A=", ""),
        ("A=# only a comment", ""),
        ("A=$HOME", "$HOME"),
        ("A=a=b", "a=b"),
        ("A=it's", "it's"),
        ("A='raw \\n # text'  # comment", "raw \\n # text"),
        ('A="tab\\tquote\\" $HOME"', 'tab\tquote" $HOME'),
        ('A="two\nlines"', "two\nlines"),
        ("A='two\nlines'", "two\nlines"),
        ('A="joined\\\nline"', "joinedline"),
        ("A=first\nA=last", "last"),
        ("\ufeff# comment\r\n\r\nA=windows\r\n".lstrip("\ufeff"), "windows"),
    ],
)
def test_a_line_has_its_value(text: str, value: str) -> None:
    assert parse(text) == {"A": value}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nnot a line", 2),
        ("A=1\n\n1A=hidden", 3),
        ("A='never closed\nB=2", 1),
        ('A="multi\nline"\nB="hidden" junk', 3),
        ("A=1\n=hidden", 2),
    ],
)
def test_a_mistake_names_its_line_and_no_value(text: str, line: int) -> None:
    with pytest.raises(ConfigError) as failed:
        parse(text)

    assert (failed.value.file, failed.value.line) == (".env", line)
    assert "hidden" not in str(failed.value)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    environment = Environment(tmp_path, {})
    assert environment.get("A") is None

    (tmp_path / ".env").write_text("A=one\n")
    assert environment.get("A") == "one"

    (tmp_path / ".env").write_text("A=another\n")
    assert environment.get("A") == "another"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=\n")

    assert Environment(tmp_path, {"A": ""}).get("A") == "file"
    assert Environment(tmp_path, {}).get("B") is None
