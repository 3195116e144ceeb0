"""Running as root through sudo, and telling sudo's own refusals from what the program says.

The program is started by a shell that first prints a mark on stderr. Before the mark speaks sudo,
after it the program: no message of sudo is parsed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from enum import Enum

from voiceops.errors import CredentialsError
from voiceops.model.secret import Secret


class SudoRefusal(Enum):
    """Why sudo starts nothing."""

    PASSWORD = "it asks for a password"
    TERMINAL = "it starts nothing without a terminal"
    OTHER = "it does not even ask"


class Sudo:
    """One start through sudo. The password goes over stdin, and where sudo does not take it the shell does."""

    def __init__(self, password: Secret | None) -> None:
        self._password = password
        self._began = f"<{secrets.token_hex(6)}>"
        self._prompt = f"<{secrets.token_hex(6)}?>"
        self._input = f"<{secrets.token_hex(6)}:>"

    @property
    def began(self) -> bytes:
        """What stands on stderr right before the program runs."""
        return f"{self._began}\n".encode()

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

    def probe(self) -> list[str]:
        """The arguments for a start that does nothing: sudo asks for the password, or ends well without."""
        return ["sudo", "-k", "-S", "-p", self._prompt, "--", "true"]

    def asks(self, said: bytes) -> bool:
        """Whether sudo has asked for the password."""
        return self._prompt.encode() in said

    def first_input(self) -> bytes:
        """What stdin starts with."""
        if self._password is None:
            return b""
        return f"{self._password.reveal()}\n{self._input}\n".encode()

    def refused(self, stderr: bytes) -> bool:
        """Whether sudo asked for the password once more: the one it got is wrong."""
        return self.began not in stderr and stderr.count(self._prompt.encode()) > 1

    def program_errors(self, host: str, stderr: bytes, exit_code: int) -> bytes:
        """The program's own stderr; ``CredentialsError`` when sudo never started it."""
        before, began, after = stderr.partition(self.began)
        if began:
            return after
        raise self.error(host, before, exit_code)

    def error(
        self, host: str, stderr: bytes, exit_code: int, why: Callable[[], SudoRefusal] | None = None
    ) -> CredentialsError:
        """What to do about a refusal; ``why`` finds out what sudo's exit code does not tell."""
        said = stderr.replace(self._prompt.encode(), b"").decode("utf-8", "replace")
        tail = tuple(line for line in said.splitlines() if line.strip())[-3:]
        if exit_code == 127:
            return CredentialsError(
                f"{host}: sudo is not installed", hint="log in as root there, or install sudo", log_tail=tail
            )
        refusal = why() if why and not self.asks(stderr) else SudoRefusal.PASSWORD
        if refusal is SudoRefusal.TERMINAL:
            return CredentialsError(
                f"{host}: sudo wants a terminal (requiretty)",
                hint="`Defaults !requiretty` in a file of /etc/sudoers.d there, or log in as root",
                log_tail=tail,
            )
        if refusal is SudoRefusal.OTHER:
            return CredentialsError(
                f"{host}: sudo starts nothing",
                hint="`sudo -l` there shows what this user may run; voiceops needs all of it",
                log_tail=tail,
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
