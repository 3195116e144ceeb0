"""Completion for bash, zsh and fish: the scripts, and the words that they ask for.

The scripts ask the very program that stands on the command line (``./inv``, ``inv``, ``voiceops``), so that they know
the tasks of its project.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from voiceops.cli.arguments import HELP, TaskWords, split
from voiceops.errors import StorageError, UsageError

REQUEST = "--complete-words"
"""First argument of a request; the words up to the cursor follow, the last one may be empty."""

BASH = """\
# Completion of voiceops for bash, written by `inv completion`.
_voiceops_complete() {
    local IFS=$'\\n' line word=${COMP_LINE:0:$COMP_POINT} words
    # Without the colons and equal signs at which bash splits words.
    read -r -a words <<<""
    IFS=$' \\t\\n' read -r -a words <<<"$word"
    [[ $word == *' ' ]] && words+=("")
    local current=${words[${#words[@]} - 1]} prefix=""
    [[ $current == *[=:]* && $COMP_WORDBREAKS == *:* ]] && prefix=${current%"${current##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line#"$prefix"}")
    done < <("${words[0]}" --complete-words "${words[@]:1}" 2>/dev/null)
    # A comma goes on with the next name.
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *, ]] && compopt -o nospace
}
complete -o default -F _voiceops_complete inv voiceops
"""
ZSH = """\
#compdef inv voiceops
# Completion of voiceops for zsh, written by `inv completion`.
_voiceops() {
    local -a found
    found=("${(@f)$("${words[1]}" --complete-words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    (( ${#found} )) && [[ -n ${found[1]} ]] && compadd -Q -- "${found[@]}" || _files
}
if [ "$funcstack[1]" = "_voiceops" ]; then
    _voiceops "$@"
else
    compdef _voiceops inv voiceops
fi
"""
FISH = """\
# Completion of voiceops for fish, written by `inv completion`.
function __voiceops_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] --complete-words $words[2..-1] "$current" 2>/dev/null
end
complete -c inv -f -a '(__voiceops_complete)'
complete -c voiceops -f -a '(__voiceops_complete)'
"""
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
"""Loads what lies in the user's folder; where it is not installed, .bashrc has to."""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
_BEGIN, _END = "# >>> voiceops completion >>>", "# <<< voiceops completion <<<"


def shell_named(name: str) -> str:
    """The shell to write for; ``UsageError`` for one that is not known."""
    shell = name or Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        raise UsageError(
            f"no completion for the shell {shell!r}" if shell else "$SHELL names no shell",
            hint=f"name one of {', '.join(SCRIPTS)}, for example `inv completion --shell bash`",
        )
    return shell


def script(shell: str) -> str:
    """The completion script of a shell."""
    return SCRIPTS[shell]


def install(shell: str, text: str) -> dict[str, bool]:
    """Write the script into the user's folder for it; True for each file that changed. Safe to call twice."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    if shell == "bash":
        # bash-completion looks a command's file up by its name.
        folder = data / "bash-completion/completions"
        written = {str(folder / name): _write(folder / name, text) for name in ("inv", "voiceops")}
        if not BASH_COMPLETION.exists():
            rc = home / ".bashrc"
            written[str(rc)] = _add_block(rc, f"source {_quoted(folder / 'inv')}")
        return written
    if shell == "fish":
        # Not completions/inv.fish: fish reads that only for a command on PATH, and ./inv is none.
        file = config / "fish/conf.d/voiceops.fish"
        return {str(file): _write(file, text)}
    place = data / "voiceops/completion.zsh"
    rc = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    lines = f"autoload -Uz compinit && compinit -u\nsource {_quoted(place)}"
    return {str(place): _write(place, text), str(rc): _add_block(rc, lines)}


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _add_block(rc: Path, lines: str) -> bool:
    before = rc.read_text(encoding="utf-8") if rc.exists() else ""
    block = f"{_BEGIN}\n{lines}\n{_END}\n"
    if block in before:
        return False
    start, end = before.find(_BEGIN), before.find(_END)
    if 0 <= start < end:
        before = before[:start] + before[end + len(_END) + 1 :]
    separator = "" if not before or before.endswith("\n") else "\n"
    return _write(rc, f"{before}{separator}{block}")


def _write(path: Path, text: str) -> bool:
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path.resolve() if path.is_symlink() else path)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error
    return True


Lookup = Callable[[str], Collection[str]]
"""Names of one kind: ``service``, ``host``, ``group`` or ``room``."""
_VALUES = {"--only": "service", "-o": "service", "--service": "service", "--host": "host", "--group": "group"}
_VALUES |= {"--limit": "host", "-l": "host", "--room": "room"}


def candidates(words: Sequence[str], contexts: Sequence[Any], names: Lookup) -> list[str]:
    """Words that can stand where the last of ``words`` stands."""
    *before, current = words or [""]
    found = split(before, contexts, is_service=lambda word: False) if before else []
    if not found:
        return _starting(
            [*(one for context in contexts for one in (context.name, *context.aliases)), "help"], current
        )
    last = found[-1]
    if last.name == "help":
        return _starting([context.name for context in contexts], current)
    if last.context is None:
        return []
    if last.pending:
        return _values(last.pending, current, names)
    if current.startswith("-"):
        flag, equals, value = current.partition("=")
        if equals:
            return [f"{flag}={one}" for one in _values(flag, value, names)]
        return _starting(
            [flag for flag in (*last.context.flag_names(), *HELP[:1]) if flag.startswith("--")], current
        )
    return _words(last, current, names)


def _words(last: TaskWords, current: str, names: Lookup) -> list[str]:
    if last.missing:
        return _starting(names("room"), current) if last.missing[0] == "room" else []
    if "--only" in last.context.flags:
        return _starting([name for name in names("service") if name not in last.services], current)
    return []


def _values(flag: str, current: str, names: Lookup) -> list[str]:
    kind = _VALUES.get(flag, "")
    if not kind:
        return []
    done, comma, part = current.rpartition(",")
    return [f"{done}{comma}{one}" for one in _starting(names(kind), part)]


def _starting(words: Collection[str], prefix: str) -> list[str]:
    return sorted({word for word in words if word.startswith(prefix)})
