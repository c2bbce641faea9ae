"""Connections that say or take too little: whoever does not send a request's head, or read its answer, is let go."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiment.serving.guard import Receive, Scope, Send, refusal_body, respond
from experiment.serving.refusals import Refused

#: Seconds for a head where more are connected than may be.
_HURRIED_S = 1.0


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which by itself waits for ever for the end of a head, and for whoever does not read.

    Here it waits for `timeout_keep_alive` seconds. What is no request, and requests on more connections than
    `limit_concurrency`, are refused in JSON, as all else is.
    """

    _hourglass: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take over what uvicorn would refuse with a text."""
        super().__init__(*arguments, **options)
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._inside, self.app = self.app, self._admit

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no longer."""
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for whoever reads."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer for whoever reads."""
        super().resume_writing()
        self._stop_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        self._stop_reading()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; what comes behind an answer gets no other one."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_refusal("400 Bad Request", "not a request of HTTP/1.1"))
        self.transport.close()

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._crowded():
            headers = {"Retry-After": "1", "Connection": "close"}
            await respond(send, Refused(503, "too many connections; try again in a second", headers))
        else:
            await self._inside(scope, receive, send)

    def _crowded(self) -> bool:
        return self._most is not None and len(self.connections) > self._most

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self._busy():
            self._stop()
        elif self._hourglass is None and not self.transport.is_closing():
            seconds = _HURRIED_S if self._crowded() else self.timeout_keep_alive
            self._hourglass = self.loop.call_later(seconds, self._give_up)

    def _stop(self) -> None:
        if self._hourglass is not None:
            self._hourglass.cancel()
            self._hourglass = None

    def _stop_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self._hourglass = None
        if not self._busy() and not self.transport.is_closing():
            self.transport.write(_refusal("408 Request Timeout", "the head of a request did not come in time"))
            self.transport.close()


def _refusal(status: str, message: str) -> bytes:
    """Return an answer where there is no request to answer."""
    body = refusal_body(message)
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body
