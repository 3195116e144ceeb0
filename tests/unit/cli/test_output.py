"""What a terminal gets: lines that fit, commands that stay whole, colours where they are wanted."""

from __future__ import annotations

import io

import pytest

from voiceops.cli import output
from voiceops.util.terminal import styled

LONG = "error: the server does not answer, which may have many causes; `inv why --room front-desk` finds out which"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_a_line_is_folded_between_words_and_a_command_stays_whole() -> None:
    lines = output.folded(LONG, 60)
    assert " ".join(line.strip() for line in lines) == LONG
    assert all(len(line) <= 60 for line in lines)
    assert any("`inv why --room front-desk`" in line for line in lines)
    assert output.folded("  fix: inv start --only agent --inventory x", 20) == [
        "  fix: inv start --only agent --inventory x"
    ]


def test_a_file_gets_whole_lines_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(LONG)
    output.show_table([["agent", "ready", LONG]])
    assert capsys.readouterr().out == f"{LONG}\nagent  ready  {LONG}\n"


def test_lines_of_several_threads_do_not_run_into_one_another() -> None:
    written: list[str] = []

    class Recorded(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    output.show("vo1: web: ready\nvo2: web: ready", Recorded())
    assert written == ["vo1: web: ready\nvo2: web: ready\n"]


def test_labels_and_states_have_the_same_colours_everywhere(terminal: Terminal) -> None:
    output.show("error: no\nwarning: hm\nfix: inv start\nfailed (no-agent): x\nfixes: none", terminal)
    output.show_table(
        [["a", "ready"], ["b", "failed"], ["c", "draining"]], headings=("name", "state"), stream=terminal
    )
    assert terminal.getvalue().splitlines() == [
        "\033[31merror\033[0m: no",
        "\033[33mwarning\033[0m: hm",
        "\033[36mfix\033[0m: inv start",
        "\033[31mfailed\033[0m (no-agent): x",
        "fixes: none",
        "\033[1mname\033[0m  \033[1mstate\033[0m",
        "a     \033[32mready\033[0m",
        "b     \033[31mfailed\033[0m",
        "c     \033[33mdraining\033[0m",
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escapes_where_they_are_not_wanted(
    name: str, value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert styled(terminal)
    monkeypatch.setenv(name, value)
    assert not styled(terminal)
    output.show("error: no", terminal)
    output.show_table([["a", "ready"]], headings=("name", "state"), stream=terminal)
    assert "\033" not in terminal.getvalue()


def test_an_empty_no_color_changes_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert styled(terminal)


def test_the_last_column_is_folded_or_goes_below(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "does not answer its health check for a while"
    output.show_table([["agent", "unresponsive", "1", words], ["web", "ready", "12", ""]], stream=terminal)
    shown = terminal.getvalue()
    assert all(len(_plain(line)) <= 40 for line in shown.splitlines())
    assert " ".join(_plain(shown).split()) == f"agent unresponsive 1 {words} web ready 12"


def test_an_empty_column_is_left_out(terminal: Terminal) -> None:
    output.show_table(
        [["a", "", "1"], ["b", "", "20"]], headings=("name", "nothing", "count"), right=(2,), stream=terminal
    )
    assert _plain(terminal.getvalue()) == "name  count\na         1\nb        20\n"


def test_what_a_name_draws_is_shown(terminal: Terminal) -> None:
    output.show_table([["\033[2Ja\nb", "ready"]], stream=terminal)
    output.show("room \033]0;x\007", terminal)
    assert "\033[2J" not in terminal.getvalue()
    assert "\033]0" not in terminal.getvalue()
    assert "\\x1b[2Ja\\nb" in terminal.getvalue()


def _plain(text: str) -> str:
    for code in ("0", "1", "31", "32", "33", "36"):
        text = text.replace(f"\033[{code}m", "")
    return text
