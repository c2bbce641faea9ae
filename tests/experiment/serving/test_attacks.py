"""What a server refuses, each with a status and one line; afterwards it answers as before."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.support.http import running

for _package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason="serving needs the packages of the extra 'serve'")

from uvicorn import Config  # noqa: E402
from uvicorn.protocols.http.flow_control import FlowControl  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402

from experiment.serving.patience import PatientProtocol  # noqa: E402

ASKED = {"question": "谁？", "context": "小猫住在北京。"}


@pytest.fixture(autouse=True)
def still_answering(server):
    yield
    assert server.ask(ASKED).status == 200


def _one_line(reply, status):
    assert reply.status == status, reply.content
    assert reply.headers["content-type"] == "application/json"
    (message,) = reply.json.values()
    assert message and "\n" not in message and "Traceback" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON: Expecting property name"),
        (b"\xff\xfe{", 400, "not UTF-8 (byte 0)"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"a":' * 100_000, 400, "nested too deeply"),
        (b'{"question": NaN}', 400, "not JSON: NaN"),
        (b'{"question": "a", "question": "b", "context": "c"}', 400, "a key twice"),
        (b"9" * 5000, 400, "a number that can't be read"),
        (b"[]", 422, "a JSON object was expected"),
        ({"context": "c"}, 422, "question: Field required"),
        ({"question": 3, "context": "c"}, 422, "question: Input should be a valid string"),
        ({"question": "q"}, 422, "either context or documents"),
        ({"question": "q", "context": "c", "documents": ["d"]}, 422, "either context or documents"),
        ({"question": "q", "documents": []}, 422, "documents: List should have at least 1 item"),
        ({"question": "q", "context": "c", "n_best": 0}, 422, "n_best"),
        ({"question": "q", "context": "c", "n_best": True}, 422, "n_best"),
        ({"question": "q", "context": "c", "min_confidence": 2}, 422, "min_confidence"),
        ({"question": "q", "context": "c", "evil" * 500: 1}, 422, "evil"),
        ({"questions": []}, 422, "questions: List should have at least 1 item"),
        ({"questions": [{"question": "q", "context": "c"}, 3]}, 422, "questions.1"),
        (b'{"question": "\\ud800", "context": "c"}', 422, "half of a character"),
        (b'{"question": "q", "context": "c", "\\ud800": 1}', 422, "valid string"),
        ({"question": "q", "context": "c", "options": ["c"]}, 422, "does not choose among options"),
        ({"questions": [{"question": "q", "context": "c"}] * 65}, 413, "at most 64 questions"),
        ({"question": "q", "documents": ["c"] * 65}, 413, "at most 64 questions, and documents"),
        ({"question": "q", "context": "小猫住在北京。" * 2000}, 413, "windows long; at most 256"),
        ({"question": "q", "context": "小" * 1_000_000}, 413, "at most 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_body_that_asks_nothing_is_refused_in_a_line(server, body, status, said):
    assert said in _one_line(server.ask(body), status)


def test_a_body_without_a_length_is_counted_as_it_comes(server):
    head = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert server.raw(head + chunk * 20, wait_s=1).startswith(b"HTTP/1.1 413 ")


def test_scripts_in_texts_come_back_as_texts(server):
    nasty = "</script><script>window.broken=1</script>小猫"
    reply = server.ask({"question": nasty, "context": nasty * 2, "id": nasty})
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff" and reply.json["answers"][0]["id"] == nasty


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/page.css/../index.html", "/%2e%2e/%2e%2e/etc/passwd", "/page/index.html", "//etc/passwd",
     "/..%2f..%2fetc%2fpasswd", "/page.js%00.css", "/static/../../run.py", "/\\..\\run.py", "/docs/"],
)  # fmt: skip
def test_only_known_addresses_are_files(server, path):
    assert _one_line(server.request("GET", path), 404)


def test_methods_and_types_that_are_not_taken(server):
    assert _one_line(server.request("GET", "/v1/answer"), 405)
    assert _one_line(server.request("POST", "/"), 405)
    body = json.dumps(ASKED).encode()
    for headers in ({"Content_Type": "text/plain"}, {"Content_Type": "application/x-www-form-urlencoded"},
                    {"Content_Encoding": "gzip"}):  # fmt: skip
        assert "application/json was expected" in _one_line(server.ask(body, **headers), 415)


def test_another_name_than_the_servers_is_refused(server, reader):
    """A page of another site, whose name somebody lets lead to this machine, reads nothing here."""
    assert "not reached by that name" in _one_line(server.request("GET", "/", Host="evil.example"), 421)
    for host in ("localhost:80", "127.0.0.1", "[::1]:8000"):
        assert server.request("GET", "/healthz", Host=host).status == 200
    with running(reader, host="127.0.0.2") as other:
        assert other.request("GET", "/healthz", Host="127.0.0.2:8000").status == 200
        assert other.request("GET", "/healthz", Host="127.0.0.3:8000").status == 421


def test_nobody_answers_without_the_key(reader):
    with running(reader, key="geheim-值", api_key_env="X") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic geheim"}, {"X_API_Key": ""}):
            for method, path, body in (
                ("POST", "/v1/answer", ASKED),
                ("GET", "/metrics", None),
                ("GET", "/v1/about", None),
            ):
                reply = server.request(method, path, body, **headers)
                assert "a key was expected" in _one_line(reply, 401) and reply.headers["www-authenticate"] == "Bearer"
        key = "geheim-值".encode().decode("latin-1")
        assert server.ask(ASKED, Authorization=f"Bearer {key}").status == 200
        assert server.ask(ASKED, X_API_Key=key).status == 200
        assert server.request("GET", "/healthz").status == server.request("GET", "/").status == 200
        assert server.request("GET", "/settings.json").json["key"] is True


def test_requests_beyond_what_can_wait_are_told_to_come_again(reader, monkeypatch):
    slow = reader._predict

    def predict(batches):
        time.sleep(0.3)
        return slow(batches)

    monkeypatch.setattr(reader, "_predict", predict)
    with running(reader, max_requests=2) as server, ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: server.ask(ASKED), range(6)))
    assert {reply.status for reply in replies} == {200, 429}
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.headers["retry-after"] == "1" and "try again" in _one_line(refused, 429)
    with running(reader, max_waiting_windows=1) as server:
        many = {"questions": [ASKED, {"question": "q", "context": "c"}]}
        assert "windows wait already" in _one_line(server.ask(many), 429)
    with running(reader, answer_timeout=0.05) as server:
        assert "not answered within 0.05 s" in _one_line(server.ask(ASKED), 503)


def test_a_fault_of_the_model_is_an_answer_without_its_message(reader, monkeypatch):
    def predict(batches):
        raise ValueError("the text was 小猫")

    said: list[str] = []
    monkeypatch.setattr("experiment.serving.app.say", said.append)
    with running(reader) as server:
        before = reader._predict
        monkeypatch.setattr(reader, "_predict", predict)
        assert _one_line(server.ask(ASKED), 500) == "internal error"
        monkeypatch.setattr(reader, "_predict", before)
        assert server.ask(ASKED).status == 200  # the thread that computes has survived
    (line,) = said
    assert line.startswith("error: ValueError at ") and "小猫" not in line


def test_who_sends_slowly_is_let_go(reader):
    """A head that never ends, a body that never comes, and a second request on a connection that dribbles."""
    head = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(reader, read_timeout=1.0) as server:
        began = time.monotonic()
        assert (late := server.raw(head)).startswith(b"HTTP/1.1 408 ") and late.endswith(b'did not come in time"}')
        assert server.raw(head + b"Content-Length: 50\r\n\r\n{").startswith(b"HTTP/1.1 408 ")
        assert server.raw(b"").endswith(b"")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            received = b""
            while time.monotonic() < began + 20:
                try:
                    connection.sendall(b"G")
                    connection.settimeout(0.2)
                    received += connection.recv(65536)
                    break
                except TimeoutError:
                    continue
                except OSError:
                    break
        assert time.monotonic() - began < 12
        assert server.ask(ASKED).status == 200


def test_what_is_no_http_is_refused(server):
    length = b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"
    for content in (b"\x16\x03\x01\x02\x00\x01\x00", b"A" * 100_000, b"GET /\xff HTTP/1.1\r\n\r\n", length):
        reply = server.raw(content, wait_s=3)
        assert reply.startswith(b"HTTP/1.1 400 ") and b"Traceback" not in reply, content[:20]
        assert reply.endswith(b'\r\n\r\n{"error": "not a request of HTTP/1.1"}')


def test_what_comes_behind_an_answer_and_is_no_request_ends_the_connection(server, caplog):
    head = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == 415 and reply.read()  # to its end, which may come later than its head
        connection.sendall(b"no length of a chunk\r\n")
        assert connection.recv(65536) == b""
    assert not [record for record in caplog.records if record.exc_info]


def test_who_does_not_read_is_let_go():
    """The answer is larger than what the machine keeps for a connection, and nobody takes it."""
    aborted = []
    transport = SimpleNamespace(abort=lambda: aborted.append(True), is_closing=lambda: False,
                                pause_reading=lambda: None, resume_reading=lambda: None)  # fmt: skip

    async def wait():
        config = Config(lambda: None, timeout_keep_alive=0, log_config=None)
        config.load()
        for reads in (True, False):
            one = PatientProtocol(config, ServerState(), {})
            one.transport, one.flow = transport, FlowControl(transport)
            one.pause_writing()
            if reads:
                one.resume_writing()
            await asyncio.sleep(0.02)
            assert bool(aborted) is not reads

    asyncio.run(wait())


def test_connections_beyond_those_that_may_be_are_told_so_in_json(reader):
    with running(reader, max_connections=3) as server:
        assert server.ask(ASKED).status == 200
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
        reply = server.ask(ASKED)
        assert "too many connections" in _one_line(reply, 503) and reply.headers["retry-after"] == "1"
        for connection in held:
            connection.close()


def test_three_hundred_connections_that_say_nothing_keep_nobody_from_an_answer(server):
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(300)]
    try:
        assert server.ask(ASKED).status == 200
    finally:
        for connection in held:
            connection.close()
