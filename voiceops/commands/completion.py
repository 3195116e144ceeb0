"""Print or install the shells' completion scripts."""

from __future__ import annotations

from voiceops.cli import completion
from voiceops.cli.command import Report


def completion_script(shell: str, *, install: bool) -> Report:
    """The script of one shell, printed or installed; ``UsageError`` for a shell that is not supported."""
    name = completion.shell_named(shell)
    text = completion.script(name)
    if not install:
        return Report({"ok": True, "shell": name, "script": text}, lambda: print(text, end=""))
    written = completion.install(name, text)
    lines = [f"wrote {path}" for path, changed in written.items() if changed]
    text = "\n".join([*lines, f"start a new {name} to use it"]) if lines else "nothing to do: it is installed"
    return Report({"ok": True, "shell": name, "changed_count": len(lines), "files": list(written)}, text)
