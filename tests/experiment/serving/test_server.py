"""A server answers as the reader does, says what it counts, and shows its pages."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from experiment.cli import main
from experiment.io import streams
from tests.support.http import running
from tests.support.served import corpus_questions

for _package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason="serving needs the packages of the extra 'serve'")

ASKED = {"question": "谁？", "context": "小猫住在北京。"}


def test_an_answer_is_the_readers_with_its_places(server, reader):
    (question, context), *_ = corpus_questions(1)
    reply = server.ask({"question": question, "context": context, "n_best": 3, "id": "7"})
    assert reply.status == 200 and reply.json["task"] == "cmrc2018"
    (answer,) = reply.json["answers"]
    own = asdict(reader.answer(question, context, n_best=3))
    assert {**own, "id": "7"}.keys() == answer.keys() and answer["id"] == "7"
    for name in ("text", "kind", "char_start", "char_end", "document", "answered"):
        assert answer[name] == own[name]
    assert answer["confidence"] == pytest.approx(own["confidence"], abs=1e-5)
    assert answer["windows"] == [dict(window) for window in own["windows"]]
    assert [each["text"] for each in answer["n_best"]] == [each["text"] for each in own["n_best"]]


def test_many_questions_and_documents_come_back_in_order(server, reader):
    texts = [text for _, text in corpus_questions(100)]
    asked = [{"id": str(n), "question": q, "context": c} for n, (q, c) in enumerate(corpus_questions(5))]
    asked.append({"id": "both", "question": asked[0]["question"], "documents": [texts[0], texts[-1]]})
    reply = server.ask({"questions": asked, "min_confidence": 0.0})
    answers = reply.json["answers"]
    assert [each["id"] for each in answers] == ["0", "1", "2", "3", "4", "both"]
    own = reader.answer(asked[0]["question"], [texts[0], texts[-1]])
    assert (answers[-1]["text"], answers[-1]["document"]) == (own.text, own.document)


def test_thirty_two_at_once_get_the_answers_of_predict(server, reader, tmp_path):
    """Bounded: 96 requests of 32 threads, each by a connection of its own."""
    asked = corpus_questions(96)
    expected = [result.text for result in reader.answer_many(asked)]
    before = server.request("GET", "/metrics").content.decode()
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(lambda pair: server.ask({"question": pair[0], "context": pair[1]}), asked))
    assert [reply.status for reply in replies] == [200] * 96
    assert [reply.json["answers"][0]["text"] for reply in replies] == expected
    after = server.request("GET", "/metrics").content.decode()
    n_windows, n_batches = (
        _value(after, name) - _value(before, name) for name in ("mrc_windows_total", "mrc_batch_windows_count")
    )
    assert n_windows >= 96 and n_batches < n_windows / 2  # windows of different requests were computed together
    data = tmp_path / "data.json"
    qas = [{"id": str(n), "question": q, "answers": []} for n, (q, _) in enumerate(asked)]
    paragraphs = [{"context": c, "qas": [qa]} for (_, c), qa in zip(asked, qas, strict=True)]
    data.write_text(json.dumps({"version": "v1.0", "data": [{"title": "", "paragraphs": paragraphs}]}))
    command = [
        "predict",
        "--task",
        "cmrc2018",
        "--model_name_or_path",
        str(reader.prepared.options.model_name_or_path),
    ]
    command += ["--test_file", str(data), "--feature_cache_dir", "None", "--output_dir", str(tmp_path / "out")]
    assert main(command) == 0
    predicted = json.loads((tmp_path / "out/predictions.json").read_text(encoding="utf-8"))
    assert [predicted[str(n)] for n in range(96)] == expected


def _value(metrics, name):
    return float(re.search(rf"^{name} (\S+)$", metrics, re.M).group(1))


def test_it_says_that_it_lives_and_which_model_answers(server):
    assert server.request("GET", "/healthz").json == {"status": "ok"}
    assert server.request("GET", "/readyz").json == {"status": "ready"}
    about = server.request("GET", "/v1/about").json
    assert about["task"] == "cmrc2018" and about["max_seq_length"] == 64 and about["documents"] is True
    assert about["inputs"] == ["question", "context"]
    for path in ("/", "/healthz", "/metrics"):
        head = server.request("HEAD", path)
        assert (head.status, head.content) == (200, b"") and int(head.headers["content-length"]) > 0
    metrics = server.request("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'mrc_requests_total{path="/healthz",status="200"}' in metrics.content.decode()


def test_the_interface_is_described_and_what_is_described_is_what_comes(server):
    described = server.request("GET", "/openapi.json").json
    operation = described["paths"]["/v1/answer"]["post"]
    assert {"200", "400", "401", "408", "413", "415", "422", "429", "503"} == operation["responses"].keys()
    schemas = described["components"]["schemas"]
    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described))
    assert {"AskOne", "AskMany", "OneQuestion", "AnswersBody", "ErrorBody"} <= {*named} <= schemas.keys()
    (answer,) = server.ask(ASKED).json["answers"]
    assert schemas["AnswerBody"]["properties"].keys() == answer.keys()


def test_pages_come_from_here_alone_and_may_fetch_from_here_alone(server):
    for path in ("/", "/docs", "/page.css", "/page.js", "/words.js", "/docs.js", "/demo.json", "/settings.json"):
        reply = server.request("GET", path)
        assert reply.status == 200 and reply.content, path
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", reply.content), path
        assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", reply.content), (
            path
        )
    for demo in server.request("GET", "/demo.json").json:
        assert demo["title"] and demo["context"] and demo["questions"]


def test_a_line_per_request_holds_no_text_unless_that_is_asked_for(reader, monkeypatch):
    lines: list[str] = []
    for place in (streams, "guard", "app"):
        name = "experiment.io.streams.say" if place is streams else f"experiment.serving.{place}.say"
        monkeypatch.setattr(name, lines.append)
    with running(reader, access_log=True) as server:
        server.ask(ASKED)
        server.request("GET", "/%E5%B0%8F%E7%8C%AB?q=%E5%B0%8F%E7%8C%AB")
    facts = [json.loads(line) for line in lines]
    assert [(each["path"], each["status"]) for each in facts] == [("/v1/answer", 200), ("other", 404)]
    assert (facts[0]["questions"], facts[0]["windows"]) == (1, 1)
    assert "小猫" not in "".join(lines) and "谁" not in "".join(lines)
    lines.clear()
    with running(reader, access_log=True, log_texts=True) as server:
        server.ask(ASKED)
    (line,) = lines
    assert "小猫住在北京" in line and json.loads(line)["answers"]


def test_what_is_being_answered_when_the_server_ends_is_still_answered(reader, monkeypatch):
    slow = reader._predict

    def predict(batches):
        time.sleep(0.5)
        return slow(batches)

    monkeypatch.setattr(reader, "_predict", predict)
    replies = []
    with running(reader) as server:
        thread = threading.Thread(target=lambda: replies.append(server.ask(ASKED)))
        thread.start()
        time.sleep(0.2)
    thread.join(30)
    assert [reply.status for reply in replies] == [200]
