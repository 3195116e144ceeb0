"""Running as root through sudo, and telling sudo's own refusals from what the program says.

The program is started by a shell that first prints a mark on stderr. Before the mark speaks sudo,
after it the program: no message of sudo is parsed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from voiceops.errors import CredentialsError
from voiceops.model.secret import Secret


class Sudo:
    """One start through sudo. The password goes over stdin, and where sudo does not take it the shell does."""

    def __init__(self, password: Secret | None) -> None:
        self._password = password
        self._began = f"<{secrets.token_hex(6)}>"
        self._prompt = f"<{secrets.token_hex(6)}?>"
        self._input = f"<{secrets.token_hex(6)}:>"

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The arguments to start."""
        script = f"echo '{self._began}' >&2; exec \"$@\""
        if self._password is None:
            return ["sudo", "-n", "--", "sh", "-c", script, "sh", *argv]
        # The shell's read takes byte by byte, so the program's input begins right behind the mark.
        script = f"while IFS= read -r line && [ \"$line\" != '{self._input}' ]; do :; done; {script}"
        begin = ["sh", "-c", script, "sh", *argv]
        # -k: a password that sudo remembers would let a wrong one pass unnoticed.
        return ["sudo", "-k", "-S", "-p", self._prompt, "--", *begin]

    def first_input(self) -> bytes:
        """What stdin starts with."""
        if self._password is None:
            return b""
        return f"{self._password.reveal()}\n{self._input}\n".encode()

    def refused(self, stderr: bytes) -> bool:
        """Whether sudo asked for the password once more: the one it got is wrong."""
        return self._began.encode() not in stderr and stderr.count(self._prompt.encode()) > 1

    def program_errors(self, host: str, stderr: bytes, exit_code: int) -> bytes:
        """The program's own stderr; ``CredentialsError`` when sudo never started it."""
        before, began, after = stderr.partition(self._began.encode() + b"\n")
        if began:
            return after
        said = before.replace(self._prompt.encode(), b"").decode("utf-8", "replace")
        raise self.error(host, said, exit_code)

    def error(self, host: str, said: str, exit_code: int) -> CredentialsError:
        """What to do about a refusal."""
        tail = tuple(line for line in said.splitlines() if line.strip())[-3:]
        if exit_code == 127:
            return CredentialsError(
                f"{host}: sudo is not installed", hint="log in as root there, or install sudo", log_tail=tail
            )
        if self._password is None:
            return CredentialsError(
                f"{host}: sudo wants a password",
                hint="set ansible_become_password, for example to {env: SUDO_PASSWORD}",
                log_tail=tail,
            )
        return CredentialsError(
            f"{host}: sudo refuses the password", hint="check ansible_become_password", log_tail=tail
        )
