"""Around every request: who may ask, by which name, and what is written down of it."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from experiment.io.streams import say
from experiment.serving.metrics import Metrics
from experiment.serving.pages import POLICY
from experiment.serving.refusals import Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Door:
    """Who may ask.

    Args:
        key: that requests have to show; "" for none.
        hosts: names that the server may be reached by; empty for any.
        open_paths: that need no key.
    """

    key: str
    hosts: Collection[str]
    open_paths: Collection[str]

    def check(self, path: str, headers: MutableMapping[bytes, bytes]) -> None:
        """Refuse a request by another name, or without the key.

        A web page of somebody else reaches a server on this machine by a name of its own: that is what the names
        are for.

        Raises:
            Refused: with 421 or 401.
        """
        if self.hosts and _host(headers.get(b"host", b"")) not in self.hosts:
            raise Refused(421, "this server is not reached by that name; see --allowed_hosts")
        if self.key and path not in self.open_paths:
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            shown = shown.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
            # In constant time, so that the time of an answer does not tell how much of a key is right.
            if not hmac.compare_digest(shown, self.key.encode()):
                raise Refused(401, "a key was expected, as Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})


class Guard:
    """Lets requests through to the application, and adds what every answer has.

    Args:
        app: answers.
        door: who may ask.
        metrics: count requests.
        known: paths that are named; requests elsewhere are counted as "other".
        log: whether a line is written per request.
    """

    def __init__(self, app: App, *, door: Door, metrics: Metrics, known: Collection[str], log: bool) -> None:
        """Keep them."""
        self._app, self._door, self._metrics, self._known, self._log = app, door, metrics, known, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500
        path = scope["path"] if scope["path"] in self._known else "other"

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            self._door.check(scope["path"], dict(scope["headers"]))
        except Refused as refused:
            await respond(sending, refused)
        else:
            # Of an answer to HEAD the server leaves the body out.
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self._app(asked, receive, sending)
        seconds = time.monotonic() - began
        self._metrics.answered(path, status, seconds)
        if self._log:
            facts = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 4)}
            write_line({**facts, **scope.get("mrc", {})})


async def respond(send: Send, refused: Refused) -> None:
    """Send a refusal."""
    content = refusal_body(refused.message)
    headers = {"content-type": "application/json", "content-length": str(len(content)), **refused.headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def refusal_body(message: str) -> bytes:
    """Return what stands in a refusal."""
    return json.dumps({"error": message}).encode()


def write_line(facts: dict[str, Any]) -> None:
    """Write a line of the log."""
    say(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}, ensure_ascii=False))


def _host(value: bytes) -> str:
    """Return the name in a Host header, without the port."""
    text = value.decode("latin-1").strip().lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
