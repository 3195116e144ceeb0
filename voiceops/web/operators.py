"""Who may see and do what operators do: this machine, or who has the operators' token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie

from voiceops.web.requester import Requester

COOKIE = "voiceops_operator"
SESSION_S = 12 * 3600.0
HERE = "this machine"


class Operators:
    """Knows the token, and gives browsers a cookie for it: what is logged in is over with this process."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._clock = clock
        self._key = secrets.token_bytes(32)

    @property
    def can_log_in(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._token)

    def known(self, asking: Requester, headers: Mapping[str, str]) -> str:
        """Return who of the operators asks, as the audit log has it; empty: none of them."""
        given = headers.get("Authorization", "")
        if given.startswith("Bearer ") and self.accepts(given.removeprefix("Bearer ").strip()):
            return f"the operators' token, {asking.address}"
        if asking.on_this_machine:
            return HERE
        if self._session_is_valid(_cookie(headers.get("Cookie", ""))):
            return f"the operators' token, {asking.address}"
        return ""

    def accepts(self, token: str) -> bool:
        """Whether it is the operators' token."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token)

    def new_session(self) -> str:
        """Return the value of a cookie for a browser that has given the token."""
        ends_at = str(int(self._clock() + SESSION_S))
        return f"{ends_at}.{self._signature(ends_at)}"

    def _session_is_valid(self, value: str) -> bool:
        ends_at, _, signature = value.partition(".")
        if not ends_at.isascii() or not ends_at.isdigit():
            return False
        good = hmac.compare_digest(signature.encode(), self._signature(ends_at).encode())
        return good and float(ends_at) > self._clock()

    def _signature(self, ends_at: str) -> str:
        return hmac.new(self._key, ends_at.encode(), hashlib.sha256).hexdigest()


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
