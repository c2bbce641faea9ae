"""Several processes behind one address: any of them answers, they are counted together, and they end together."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.served import write_model

for _package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason="serving needs the packages of the extra 'serve'")

ROOT = Path(__file__).resolve().parents[3]
BODY = json.dumps({"question": "谁？", "context": "小猫住在北京。"}).encode()
REQUEST = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"


def _start(model, *flags):
    command = [sys.executable, "run_mrc.py", "serve", "--model_name_or_path", str(model), "--port", "0", *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def _ready(process, address):
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/readyz").close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.soak
def test_processes_whose_watcher_was_killed_end_and_leave_the_port(tmp_path):
    process = _start(write_model(tmp_path / "model"), "--workers", "2", "--no_access_log")
    address = re.search(r"http://\S+:\d+", process.stderr.readline()).group()
    _ready(process, address)
    process.kill()
    process.wait(60)
    end = time.monotonic() + 60
    refused = False
    while not refused and time.monotonic() < end:
        time.sleep(0.2)
        try:
            urllib.request.urlopen(f"{address}/healthz").close()
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError)
        except ConnectionError:  # it was waiting to be answered when the last one ended
            continue
    assert refused


@pytest.mark.soak
def test_two_processes_answer_are_counted_as_one_and_end_when_told(tmp_path):
    process = _start(write_model(tmp_path / "model"), "--workers", "2", "--no_access_log")
    try:
        address = re.search(r"http://\S+:\d+", process.stderr.readline()).group()
        _ready(process, address)
        for _ in range(12):
            request = urllib.request.Request(f"{address}/v1/answer", BODY, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as reply:
                assert json.load(reply)["answers"][0]["text"]
        with urllib.request.urlopen(f"{address}/metrics") as reply:
            assert 'mrc_requests_total{path="/v1/answer",status="200"} 12.0' in reply.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.soak
def test_processes_that_can_not_start_say_why_and_are_not_started_again(tmp_path):
    process = _start(write_model(tmp_path / "model"), "--workers", "2", "--device", "cuda:99")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and "error: --device cuda:99: no such device here" in errors
    assert "Traceback" not in errors


@pytest.mark.soak
def test_a_thousand_connections_at_once_are_answered_or_told_to_come_again(server):
    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(REQUEST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        reply = await asyncio.wait_for(reader.read(), 120)
        writer.close()
        return int(reply.split(b" ", 2)[1])

    async def all_of_them():
        return await asyncio.gather(*(ask() for _ in range(1000)))

    statuses = asyncio.run(all_of_them())
    assert len(statuses) == 1000 and {*statuses} <= {200, 429} and statuses.count(200) >= 200
    assert server.request("GET", "/readyz").status == 200
