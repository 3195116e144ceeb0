"""Print or install the shells' completion scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.cli import completion
from voiceops.cli.command import Report

if TYPE_CHECKING:
    from voiceops.model.documents.project import CompletionDocument


def completion_script(shell: str, *, install: bool) -> Report:
    """The script of one shell, printed or installed; ``UsageError`` for a shell that is not supported."""
    name = completion.shell_named(shell)
    script = completion.script(name)
    written = completion.install(name, script) if install else {}
    lines = [f"wrote {path}" for path, changed in written.items() if changed]
    document: CompletionDocument = {
        "shell": name,
        "script": script,
        "changed_count": len(lines),
        "files": {str(path): {"changed": changed} for path, changed in written.items()},
    }
    if not install:
        return Report(document, lambda: print(script, end=""))
    text = "\n".join([*lines, f"start a new {name} to use it"]) if lines else "nothing to do: it is installed"
    return Report(document, text)
