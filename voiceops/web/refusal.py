"""A request that is answered with an error."""

from __future__ import annotations

from collections.abc import Mapping


class RequestRefused(Exception):
    """Why, as status, code and text for the client."""

    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.text = status, code, text
        self.headers = dict(headers or {})
