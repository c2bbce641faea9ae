"""A server in a thread of this process, and a client that needs no package."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Running(NamedTuple):
    """A server that listens."""

    port: int
    service: Any

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request; a body that is not bytes goes as JSON, underscores of headers' names as dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if content is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, content, sent)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def ask(self, body: Any, **headers: str) -> Reply:
        return self.request("POST", "/v1/answer", body, **headers)

    def raw(self, content: bytes, wait_s: float = 5.0) -> bytes:
        """Send bytes as they are, and return all that comes until the server hangs up or says nothing for a while."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            connection.sendall(content)
            parts = []
            try:
                while part := connection.recv(65536):
                    parts.append(part)
            except TimeoutError:
                parts.append(b"<still open>")
            return b"".join(parts)


@contextmanager
def running(reader: Any, key: str = "", **changes: Any) -> Iterator[Running]:
    """Serve what a reader answers, with other options of `serve` where they are given.

    Args:
        reader: stays open when the server ends.
        key: that requests have to show.
        **changes: options by name.
    """
    from uvicorn import Server

    from experiment.options.reading import ServeOptions
    from experiment.serving.run import application, config_of
    from experiment.serving.service import Service

    options = ServeOptions(model_name_or_path="a model", **{"access_log": False, **changes})
    services: list[Any] = []

    class Lent:
        """A reader that somebody else closes."""

        def __getattr__(self, name: str) -> Any:
            return (lambda: None) if name == "close" else getattr(reader, name)

    def begin(metrics: Any) -> Any:
        services.append(Service(Lent(), options, options.batch_wait, metrics))
        return services[0]

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = Server(config_of(partial(application, options, key, begin), options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        assert server.started
        yield Running(listener.getsockname()[1], services[0])
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
