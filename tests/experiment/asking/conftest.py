"""A server that answers as it is told to, on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.experiment.conftest import Corpus, write_corpus


def completion(text: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": "served-1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5},
        **more,
    }


class Stub:
    """Its `answer` takes a request's body and returns a status, a body (JSON or text) and headers."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, Any, dict[str, str]]] = lambda body: (
            200,
            completion(""),
            {},
        )
        self.lock, self.n_now, self.n_most = threading.Lock(), 0, 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub.lock:
                    stub.seen.append((body, {**dict(self.headers), "path": self.path}))
                    stub.n_now += 1
                    stub.n_most = max(stub.n_most, stub.n_now)
                try:
                    status, value, headers = stub.answer(body)
                finally:
                    with stub.lock:
                        stub.n_now -= 1
                with contextlib.suppress(ConnectionError):  # who asked has gone
                    self._send(status, value, headers)

            def _send(self, status: int, value: Any, headers: dict[str, str]) -> None:
                content = (value if isinstance(value, str) else json.dumps(value)).encode()
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def stub():
    stub = Stub()
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return write_corpus(tmp_path)
