"""completion: Tab in bash, zsh and fish."""

from __future__ import annotations

from voiceops.cli.command import Report, Run, command


@command(
    help={
        "shell": "bash, zsh or fish (default: the one of $SHELL).",
        "install": "Write it where the shell reads it at its next start.",
    }
)
def completion(run: Run, shell: str = "", install: bool = False) -> Report:
    """Print or install the completion of commands, flags, services, hosts and rooms.

    Works for inv, ./inv and voiceops. Example: inv completion --install
    """
    from voiceops.cli import completion as scripts

    name = scripts.shell_named(shell)
    text = scripts.script(name)
    if not install:
        return Report({"ok": True, "shell": name, "script": text}, lambda: print(text, end=""))
    written = scripts.install(name, text)
    lines = [f"wrote {path}" for path, changed in written.items() if changed]
    text = "\n".join([*lines, f"start a new {name} to use it"]) if lines else "nothing to do: it is installed"
    return Report({"ok": True, "shell": name, "changed_count": len(lines), "files": list(written)}, text)
