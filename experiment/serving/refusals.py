"""What a server says no with: a status, and one line."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """A request is not answered.

    Args:
        status: of HTTP.
        message: one line that says what was found, and what was expected; it holds nothing of the request's texts.
        headers: further ones of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep them."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def busy(message: str) -> Refused:
    """Return the refusal of one request too many, which may come again soon."""
    return Refused(429, f"{message}; try again in a second", {"Retry-After": "1"})
