"""``python -m voiceops``: the same tasks as plain Invoke, with our exit codes; ``./inv`` runs this."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> None:
    """Run the command line.

    In front, ``--project DIR`` names the folder of tasks.py and ``--invoked-as WORD`` what the user typed.
    """
    try:
        _run()
    except KeyboardInterrupt:
        # While modules are imported; once the program runs, it handles Ctrl-C itself.
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    # Imports make many objects and no garbage: at Python's own threshold the collector takes 5 % of a command.
    gc.set_threshold(50_000, 20, 20)
    import_invoke()
    from voiceops.cli.invocation import program_as_typed
    from voiceops.cli.program import run

    arguments = sys.argv[1:]
    given: dict[str, str] = {}
    while arguments[:1] in (["--project"], ["--invoked-as"]) and len(arguments) > 1:
        given[arguments[0]] = arguments[1]
        arguments = arguments[2:]
    default = "./inv" if "--project" in given else "voiceops" if _is_script() else "inv"
    run(
        arguments,
        project=given.get("--project"),
        program=program_as_typed(given.get("--invoked-as", default)),
        tasks=_packaged_tasks,
    )


def _is_script() -> bool:
    """Whether the ``voiceops`` command was run, and not ``python -m voiceops``."""
    return Path(sys.argv[0]).name == "voiceops"


def _packaged_tasks() -> Any:
    from voiceops.tasks import namespace

    return namespace


def import_invoke() -> None:
    """Import Invoke in half of its time.

    Its context module imports unittest.mock, and with it asyncio, for a class that only
    tests use; its YAML reader is only needed where somebody has an invoke.yaml.
    """
    if "invoke" in sys.modules:
        return
    finder = _LazyYaml()
    stand_in = ModuleType("unittest.mock")
    stand_in.Mock = _late_mock  # type: ignore[attr-defined]
    sys.meta_path.insert(0, finder)
    mock = sys.modules.setdefault("unittest.mock", stand_in)
    try:
        import invoke  # noqa: F401
    finally:
        sys.meta_path.remove(finder)
        if mock is stand_in:
            del sys.modules["unittest.mock"]


class _LazyYaml(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "invoke.vendor.yaml":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _late_mock(*arguments: object, **keywords: object) -> object:
    from unittest.mock import Mock

    return Mock(*arguments, **keywords)


if __name__ == "__main__":
    main()
