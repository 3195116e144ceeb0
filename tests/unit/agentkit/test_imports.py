"""agentkit is small: it costs an agent nothing before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import voiceops.agentkit
from voiceops.agentkit.worker import PRIVATE_NAMES

FOLDER = Path(voiceops.agentkit.__file__).parent


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(result.stdout.split())


def test_importing_agentkit_imports_neither_livekit_nor_an_event_loop() -> None:
    loaded = loaded_after("import voiceops.agentkit")

    heavy = {"livekit", "livekit.agents", "livekit.rtc", "aiohttp", "asyncio", "prometheus_client", "psutil"}
    assert not loaded & heavy


def test_no_piece_imports_livekit_agents_before_it_is_used() -> None:
    names = ", ".join(voiceops.agentkit.__all__)

    assert "livekit.agents" not in loaded_after(f"from voiceops.agentkit import {names}")


def test_agentkit_imports_nothing_of_voiceops_but_the_model() -> None:
    imported = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)

    ours = {name for name in imported if name.startswith("voiceops.")}
    assert {name.split(".")[1] for name in ours} <= {"agentkit", "model"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        voiceops.agentkit.nothing  # noqa: B018


def test_the_private_parts_that_agentkit_uses_exist_in_the_installed_livekit_agents() -> None:
    code = (
        "from livekit.agents import AgentServer, JobRequest\n"
        "server = AgentServer()\n"
        f"late = {{'_proc_pool', '_reserved_slots', '_worker_load'}}\n"
        "import inspect; source = inspect.getsource(AgentServer)\n"
        f"missing = [n for n in {PRIVATE_NAMES!r}\n"
        "           if not hasattr(server, n) and not (n in late and f'self.{n}' in source)]\n"
        "assert not missing, missing\n"
        "assert '_on_accept' in inspect.getsource(JobRequest)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
