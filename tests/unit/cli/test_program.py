"""The command line as typed: help pages, refused options, numbers, completion words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from voiceops import __main__ as entry_point
from voiceops.cli.program import VoiceopsProgram
from voiceops.tasks import namespace

Inv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inv(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inv:
    """Runs one command line in a project with the services agent and web; gives exit code, stdout, stderr."""
    (tmp_path / "inventory.yaml").write_text(
        "all:\n  vars:\n    project: p\n    services:\n"
        "      agent: {kind: command, command: [/bin/sleep, '9']}\n"
        "      web: {kind: command, command: [/bin/sleep, '9']}\n"
        "  children:\n    local: {hosts: {localhost: {ansible_connection: local}}}\n"
        "    voice: {hosts: {'voice[1:2]': {}}}\n"
    )
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        program = VoiceopsProgram(namespace=namespace, version="0")
        program.typed = "./inv"
        try:
            program.run(["inv", *arguments])
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_the_overview_has_every_command_once_under_a_heading(inv: Inv, arguments: tuple[str, ...]) -> None:
    code, out, _ = inv(*arguments)
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert code == 0
    assert sorted(listed) == sorted(namespace.task_names)
    assert [line for line in out.splitlines() if line.endswith(":")] == [
        "Every day:",
        "Diagnosis:",
        "Rooms:",
        "Servers:",
        "Project:",
    ]


@pytest.mark.parametrize("name", sorted(namespace.task_names))
def test_each_command_has_a_page_with_its_flags_and_an_example(inv: Inv, name: str) -> None:
    code, out, _ = inv("help", name)
    assert code == 0
    assert f"./inv {name}" in out.partition("USAGE")[2]
    assert "./inv" in out.partition("EXAMPLES")[2].partition("EXIT CODES")[0]
    assert "--json" in out.partition("FLAGS")[2]
    assert inv(name, "--help") == (code, out, "")
    assert inv("--help", name) == (code, out, "")


def test_all_pages_follow_each_other(inv: Inv) -> None:
    _, out, _ = inv("help", "--all")
    assert out.count("\nUSAGE\n") == len(namespace.task_names)


@pytest.mark.parametrize(
    "option", ["--dry", "--echo", "--pty", "--warn-only", "--hide=both", "--command-timeout=3"]
)
def test_options_of_invoke_without_effect_are_refused(inv: Inv, option: str) -> None:
    code, out, err = inv(option, "inventory")
    assert (code, out) == (3, "")
    assert "has no meaning" in err
    assert "hint: " in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("call", "--count", "abc"), "--count takes a whole number, not 'abc'"),
        (("stop", "--timeout", "-3"), "--timeout takes a number from 0 upwards, not -3"),
        (("stop", "--drain=-1"), "--drain takes a number from 0 upwards, not -1"),
        (("logs", "--lines", "-5"), "--lines takes a whole number from 0 upwards, not -5"),
        (("start", "--timeout", "inf"), "--timeout takes a number from 0 upwards, not inf"),
        (("strt",), "'strt' is no command"),
        (("rooms.show", "--check"), "rooms.show needs ROOM"),
        (("rooms.show", "--room=-x"), "ROOM can't be -x"),
        (("help", "nope"), "'nope' is no command"),
        (("--list-depth", "stop"), "--list-depth takes a whole number, not 'stop'"),
        (("--warn-only", "inventory"), "--warn-only has no meaning"),
    ],
)
def test_a_mistake_names_the_argument_and_exits_3(
    inv: Inv, arguments: tuple[str, ...], expected: str
) -> None:
    code, out, err = inv(*arguments)
    assert (code, out) == (3, "")
    assert expected in err.splitlines()[0]
    assert err.splitlines()[1].startswith("hint: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], {"start", "status"}),
        (["rooms.s"], {"rooms.selftest", "rooms.show"}),
        (["help", "rec"], {"recover"}),
        (["logs", ""], {"agent", "web"}),
        (["logs", "agent", ""], {"web"}),
        (["logs", "--only", "agent,w"], {"agent,web"}),
        (["start", "--host", "voi"], {"voice1", "voice2"}),
        (["start", "--group", "vo"], {"voice"}),
        (["start", "--host=lo"], {"--host=localhost"}),
        (["start", "--rep"], {"--replace"}),
        (["call", "--count", ""], set()),
        (["nonsense", ""], set()),
    ],
)
def test_completion_offers_what_can_stand_there(inv: Inv, words: list[str], expected: set[str]) -> None:
    code, out, err = inv("--complete-words", *words)
    assert (code, set(out.split()), err) == (0, expected, "")


def test_completion_is_silent_where_the_inventory_is_broken(inv: Inv, tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("all: [\n")
    assert inv("--complete-words", "logs", "") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["start", "--onyl", "agent"], "did you mean --only?"),
        (["start", "-x"], "see `./inv help start`"),
        (["statr"], "did you mean start?"),
        (["quite-another-thing"], "see `./inv help`"),
    ],
)
def test_an_unknown_flag_or_command_names_the_one_that_was_meant(
    inv: Inv, words: list[str], hint: str
) -> None:
    code, _, err = inv(*words)
    assert code == 3
    assert f"hint: {hint}" in err


def test_ctrl_c_while_modules_are_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry_point, "import_invoke", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry_point.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_a_configuration_file_that_is_not_there_is_no_configuration_that_is_ignored(inv: Inv) -> None:
    code, out, err = inv("--config", "missing.yaml", "check-running")
    assert (code, out) == (3, "")
    assert "--config missing.yaml: there is no such file" in err
