"""The documentation is true: every task has help and an example, and README knows it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection, Program
from invoke.exceptions import ParseError
from invoke.parser import Parser

from voiceops import kinds
from voiceops.cli.arguments import split
from voiceops.config.project import Configuration
from voiceops.errors import UsageError
from voiceops.tasks import namespace
from voiceops.tasks.test import run_tests

TASKS: dict[str, Any] = {name: namespace[name] for name in namespace.task_names} | {"test": run_tests}


def _contexts() -> list[Any]:
    """What Invoke's parser knows of the tasks. Made once: making it takes the help texts out of them."""
    with_test = Collection()
    with_test.add_task(run_tests)
    return [*namespace.to_contexts(), *with_test.to_contexts()]


CONTEXTS = _contexts()


def documents(repository: Path) -> list[Path]:
    return [
        *(repository / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted((repository / "docs").glob("**/*.md")),
        *sorted((repository / "examples").glob("**/*.md")),
    ]


def commands_in(text: str) -> Iterator[str]:
    """Every ``inv ...`` command of a document: in code blocks and in backquotes."""
    for block in re.findall(r"^```(?:sh|shell|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^\$? ?|&& )((?:\./)?inv .*?)(?= #| &&|$)", line)
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`((?:\./)?inv [^`]+)`", without_blocks)


def parses(command: str) -> str:
    """Empty, or why the command line would be refused."""
    words = shlex.split(command)[1:]
    if words[:1] == ["help"]:
        return "" if {*words[1:]} <= {*TASKS, "COMMAND", "--all"} else f"{command}: no such page"
    try:
        parts = split(words, CONTEXTS, is_service=lambda word: False)
        tokens = [token for part in parts for token in part.tokens()]
        Parser(initial=Program().initial_context, contexts=CONTEXTS).parse_argv(tokens)
    except (ParseError, ValueError, UsageError) as error:
        return f"{command}: {error}"
    return ""


def test_there_are_tasks() -> None:
    assert {"start", "stop", "check-running", "init", "test"} <= set(TASKS)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_each_task_has_a_sentence_an_example_that_parses_and_help_for_each_flag(name: str) -> None:
    task = TASKS[name]
    text = (task.__doc__ or "").strip()
    assert text.split("\n")[0].rstrip().endswith((".", "?")), "the first line is a sentence"
    found = re.findall(r"Examples?: +((?:\./)?inv .*?)(?=\.?\s*$|\. |\n)", text, re.MULTILINE)
    examples = [example for line in found for example in line.split(", ") if "inv " in example]
    assert examples, f"{name} has no `Example: inv ...` in its docstring"
    assert [parses(example) for example in examples] == [""] * len(examples)
    context = next(context for context in CONTEXTS if context.name == name)
    without = [flag for flag, argument in context.args.items() if not argument.help]
    assert without == [], "flags without help"


def test_each_task_stands_in_readme(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    missing = [name for name in TASKS if not re.search(rf"inv {re.escape(name)}[ `\n]", readme)]
    assert missing == []


def test_each_command_in_the_documents_parses(repository: Path) -> None:
    wrong = [
        f"{document.name}: {problem}"
        for document in documents(repository)
        if document.name != "mistakes.md"  # whose commands are mistakes
        for command in commands_in(document.read_text())
        if (problem := parses(command))
    ]
    assert wrong == []


def test_each_local_link_in_the_documents_leads_somewhere(repository: Path) -> None:
    broken = [
        f"{document.name}: {target}"
        for document in documents(repository)
        for target in re.findall(r"\]\((?!\w+:|#)([^)#]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_the_sample_inventory_loads_and_names_its_agent(repository: Path) -> None:
    configuration = Configuration.read(repository / "inventory.yaml", kinds)
    (local,) = configuration.select(host="", group="", limit="")
    assert set(local.settings.services) == {"livekit", "agent", "monitor"}
    assert local.local


def test_the_sample_for_servers_has_a_monitor_that_places_probe_calls(
    repository: Path, tmp_path: Path
) -> None:
    above, heading, sample = (
        (repository / "inventory.yaml").read_text().partition("    # Servers, reached by ssh:\n")
    )
    assert heading
    servers = "".join(f"{line[:4]}{line[6:]}\n" for line in sample.splitlines() if line.strip() != "#")
    (tmp_path / "inventory.yaml").write_text(above + servers)
    shutil.copytree(repository / "examples", tmp_path / "examples")
    configuration = Configuration.read(tmp_path / "inventory.yaml", kinds)
    hosts = configuration.select(host="", group="voice", limit="")
    assert [host.name for host in hosts] == [f"voice{number}.example.com" for number in (1, 2, 3)]
    for host in hosts:
        assert list(host.settings.running) == ["livekit", "agent", "monitor"]
        assert host.settings.monitor.probe_call_every_s == 300


def test_a_server_named_ad_hoc_gets_no_monitor_from_the_sample_inventory(repository: Path) -> None:
    configuration = Configuration.read(repository / "inventory.yaml", kinds)
    (server,) = configuration.select(host="deploy@192.0.2.1:22", group="", limit="")
    assert set(server.settings.services) == {"livekit", "agent"}
