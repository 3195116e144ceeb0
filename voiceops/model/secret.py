"""Secrets are a type: they show themselves only where they are asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

SecretForm = Literal["literal", "env", "file", "command"]
"""How an inventory gives a secret: itself, or where it is."""


class Secret:
    """A string that repr, str, format, logs and JSON never show; ``reveal()`` does.

    One made by ``Secret.of`` is fetched on the first ``reveal()``: a command that needs no
    credentials must not run a password manager.
    """

    __slots__ = ("_fetch", "_value", "form", "reference")

    def __init__(self, value: str) -> None:
        self._value: str | None = value
        self._fetch: Callable[[], str] | None = None
        self.form: SecretForm = "literal"
        self.reference = ""
        """The variable, file or command that it comes from; empty for a literal one."""

    @classmethod
    def of(cls, form: SecretForm, reference: str, fetch: Callable[[], str]) -> Secret:
        """A secret that ``fetch`` gets when it is first needed; it may raise ``ConfigError``."""
        secret = cls("")
        secret._value = None
        secret._fetch = fetch
        secret.form = form
        secret.reference = reference
        return secret

    def reveal(self) -> str:
        """The plain text, for the one place that sends it. Fetches it once."""
        if self._value is None:
            assert self._fetch is not None
            self._value = self._fetch()
        return self._value

    def __repr__(self) -> str:
        return "Secret('****')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "****"

    def __bool__(self) -> bool:
        """Whether one is configured; does not fetch it."""
        return self._value != ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return False
        if self.form != "literal" and (self.form, self.reference) == (other.form, other.reference):
            return True  # the same reference: no need to fetch it
        return self.reveal() == other.reveal()

    def __hash__(self) -> int:
        # Not of the value: hashing a settings struct must not fetch anything.
        return hash(Secret)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")
