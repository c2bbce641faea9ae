"""`ask_llm` against a server of its own: replies, errors, limits, resuming, and a key that is nowhere."""

from __future__ import annotations

import json
import threading
import time
from email.utils import formatdate

import pytest

from experiment.cli import main
from tests.experiment.asking.conftest import completion

KEY = "sk-very-secret-0123456789"
ANSWERS = {"小猫": "北京", "小狗": "答案：上海。", "张三": "“苹果”", "李四": "香蕉", "王五": "三 本", "赵六": "六支"}


def _right(body):
    question = body["messages"][-1]["content"].split("问题：")[1]
    return 200, completion(next(a for name, a in ANSWERS.items() if name in question)), {}


@pytest.fixture
def ask(stub, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    stub.answer = _right

    def run(*more: str, output: str = "llm") -> int:
        return main(
            ["ask_llm", "--task", "cmrc2018", "--test_file", str(corpus.data), "--base_url", stub.url, "--model", "m",
             "--retry_wait", "0.001", "--output_dir", str(tmp_path / output), *more]
        )  # fmt: skip

    return run


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_answers_are_slices_of_the_context_and_scored_like_any_others(ask, stub, corpus, tmp_path, capsys):
    assert ask("--price_input", "2", "--price_output", "10") == 0
    said = capsys.readouterr().out
    assert "600 tokens of prompts, 30 of replies, 0.0015 in the currency" in said
    answers = _json(tmp_path / "llm" / "predictions.json")
    assert list(answers) == ["T_0_Q_0", "T_0_Q_1", "T_1_Q_0", "T_1_Q_1", "T_2_Q_0", "T_2_Q_1"]
    assert list(answers.values()) == ["北京", "上海。", "苹果", "香蕉", "三本", "六支"]
    protocol = _json(tmp_path / "llm" / "protocol.json")
    assert protocol["n_by_extraction"] == {
        "kind": 0, "exact": 4, "normalised": 1, "fuzzy": 0, "raw": 1, "empty": 0,
    }  # fmt: skip
    assert protocol["models_that_answered"] == ["served-1"] and protocol["cost"] == pytest.approx(0.0015)
    assert _json(tmp_path / "llm" / "extractions.json")["T_2_Q_0"]["char_start"] == 3
    body, headers = stub.seen[0]
    assert headers["path"] == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 512)
    files = ["--task", "cmrc2018", "--data_file", str(corpus.data)]
    assert main(["evaluate", *files, "--predictions", str(tmp_path / "llm" / "predictions.json")]) == 0
    assert "83.333" in capsys.readouterr().out
    assert main(["leaderboard", *files, "--predictions", f"llm={tmp_path / 'llm' / 'predictions.json'}"]) == 0
    table = capsys.readouterr().out
    assert "83.333" in table and f"cmrc2018/1 ({protocol['prompt_sha256'][:8]})" in table


def test_what_stands_beside_other_predictions_says_nothing_of_these(ask, corpus, tmp_path, capsys):
    """A file that was replaced by hand must not be called the model's."""
    assert ask() == 0
    (tmp_path / "llm" / "predictions.json").write_text('{"T_0_Q_0": "北京"}')
    files = ["--task", "cmrc2018", "--data_file", str(corpus.data)]
    capsys.readouterr()
    assert main(["leaderboard", *files, "--predictions", f"x={tmp_path / 'llm' / 'predictions.json'}"]) == 0
    assert "asked with" not in capsys.readouterr().out


def test_the_key_is_nowhere_on_disk_or_screen(ask, stub, tmp_path, capsys):
    """Not even where the server repeats it, in an error or in a reply."""
    fails = iter([True])
    stub.answer = lambda body: (
        (500, {"error": {"message": f"key {KEY} is tired"}}, {})
        if next(fails, False)
        else (200, completion(f"北京 {KEY}", model=KEY), {})
    )
    assert ask() == 0
    stub.answer = lambda body: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, {})
    assert ask(output="other") == 2
    shown = capsys.readouterr()
    assert "Incorrect API key provided: ***" in shown.err and "OPENAI_API_KEY" in shown.err
    assert KEY not in shown.out + shown.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not any(KEY.encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        (429, "", {"Retry-After": formatdate(usegmt=True)}),
        (503, "<html>Service Unavailable</html>", {}),
        (200, "<html>a gateway</html>", {}),
        (200, {"choices": []}, {}),
        (200, {"choices": [{"message": None}]}, {}),
        (200, [1], {}),
        (200, "[" * 100_000, {}),
        (200, completion("北京", usage={"prompt_tokens": float("inf")}), {}),
    ],
)
def test_what_may_pass_is_tried_again(trouble, ask, stub, tmp_path):
    failed: set[str] = set()

    def answer(body):
        question = body["messages"][-1]["content"]
        if question in failed:
            return _right(body)
        failed.add(question)
        return trouble

    stub.answer = answer
    assert ask() == 0
    assert len(stub.seen) == 12 and len(_json(tmp_path / "llm" / "predictions.json")) == 6


def test_a_server_is_given_the_time_that_it_asks_for(ask, stub):
    times: list[float] = []

    def answer(body):
        times.append(time.perf_counter())
        return (429, "", {"Retry-After": "0.3"}) if len(times) == 1 else _right(body)

    stub.answer = answer
    assert ask("--max_eval_samples", "1") == 0
    assert times[1] - times[0] >= 0.3


def test_a_server_that_says_nothing_is_not_waited_for(ask, stub):
    done = threading.Event()
    stub.answer = lambda body: (done.wait(5), _right(body))[1] if len(stub.seen) == 1 else _right(body)
    begun = time.perf_counter()
    assert ask("--timeout", "0.2", "--concurrency", "1") == 0
    done.set()
    assert time.perf_counter() - begun < 4 and len(stub.seen) == 7


@pytest.mark.parametrize("content", ["", None, "<think>北京？上海？"])
def test_a_reply_without_text_is_no_answer(content, ask, stub, tmp_path, capsys):
    """To SQuAD 2.0 an empty answer is one: that there is none. Who says nothing has not said that."""
    stub.answer = lambda body: (200, completion(content), {}) if "小猫住" in str(body) else _right(body)
    assert ask() == 0
    answers = _json(tmp_path / "llm" / "predictions.json")
    assert len(answers) == 4
    assert "2  empty: no text" in capsys.readouterr().out


def test_replies_that_were_cut_off_are_counted(ask, stub, tmp_path, capsys):
    cut = completion("北京")
    cut["choices"][0]["finish_reason"] = "length"
    stub.answer = lambda body: (200, cut, {})
    assert ask() == 0
    assert "6  replies were cut off; --max_tokens raises that" in capsys.readouterr().out


def test_a_question_that_the_server_refuses_is_counted_as_wrong(ask, stub, tmp_path, capsys):
    def answer(body):
        return (400, {"error": {"message": "content filter"}}, {}) if "小狗住在哪里" in str(body) else _right(body)

    stub.answer = answer
    assert ask() == 0
    assert "T_0_Q_1" not in _json(tmp_path / "llm" / "predictions.json")
    assert _json(tmp_path / "llm" / "protocol.json")["n_refused"] == 1
    # It is asked again only where that is wanted: what a server refuses it mostly refuses always.
    stub.answer, n_seen = _right, len(stub.seen)
    capsys.readouterr()
    assert ask() == 0 and len(stub.seen) == n_seen
    assert "5 of 6 questions have their reply, 1 were refused; --retry_refused asks" in capsys.readouterr().out
    assert ask("--retry_refused") == 0 and len(stub.seen) == n_seen + 1
    assert _json(tmp_path / "llm" / "predictions.json")["T_0_Q_1"] == "上海。"
    assert _json(tmp_path / "llm" / "protocol.json")["n_refused"] == 0


def test_a_request_that_is_wrong_for_all_questions_is_said_and_not_kept(ask, stub, tmp_path, capsys):
    stub.answer = lambda body: (400, {"error": {"message": "max_tokens is not supported"}}, {})
    assert ask("--concurrency", "1") == 2
    assert "refuses every question: HTTP 400 (max_tokens is not supported)" in capsys.readouterr().err
    assert len(stub.seen) <= 4 and (tmp_path / "llm" / "answers.jsonl").read_bytes() == b""
    stub.answer = _right
    assert ask("--extra_body", '{"max_tokens": null, "max_completion_tokens": 9}') == 0
    assert stub.seen[-1][0]["max_completion_tokens"] == 9 and "max_tokens" not in stub.seen[-1][0]


def test_the_key_follows_no_redirect(ask, stub, capsys):
    stub.answer = lambda body: (307, "", {"Location": "http://127.0.0.1:1/v1/chat/completions"})
    assert ask("--concurrency", "1") == 2
    assert "leads to http://127.0.0.1:1" in capsys.readouterr().err
    assert len(stub.seen) == 1


def test_the_same_command_goes_on_with_what_has_no_reply(ask, stub, tmp_path, capsys):
    """A server that goes away, and a process that was killed in the middle of a line, cost no reply twice."""
    stub.answer = lambda body: _right(body) if len(stub.seen) <= 2 else (502, "", {})
    assert ask("--concurrency", "1", "--max_retries", "1") == 2
    said = capsys.readouterr().err
    assert (
        "4 of 6 questions that were asked now have no reply yet (HTTP 502); the same command asks them again" in said
    )
    assert not (tmp_path / "llm" / "predictions.json").exists()
    with (tmp_path / "llm" / "answers.jsonl").open("ab") as file:
        file.write(b'{"id": "T_1_Q_1", "reply": "half a l')
    stub.seen.clear()
    stub.answer = _right
    assert ask() == 0
    assert len(stub.seen) == 4 and "2 of 6 questions have their reply" in capsys.readouterr().out
    assert len((tmp_path / "llm" / "answers.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    stub.seen.clear()
    first = (tmp_path / "llm" / "predictions.json").read_bytes()
    assert ask() == 0
    assert not stub.seen and (tmp_path / "llm" / "predictions.json").read_bytes() == first


def test_replies_of_other_requests_are_not_mixed_in(ask, stub, capsys):
    assert ask("--max_eval_samples", "2") == 0
    assert ask() == 0
    assert ask("--temperature", "0.7") == 2
    assert "holds replies to other requests for 6 questions, such as 'T_0_Q_0'" in capsys.readouterr().err
    assert len(stub.seen) == 6


def test_no_more_requests_at_a_time_than_asked_for(ask, stub):
    def answer(body):
        time.sleep(0.05)
        return _right(body)

    stub.answer = answer
    assert ask("--concurrency", "3") == 0
    assert stub.n_most == 3


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--base_url", "localhost:8000"], "an address such as http://localhost:8000/v1 was expected"),
        (["--base_url", "https://me:pw@x.org/v1"], "give the key in OPENAI_API_KEY"),
        (["--extra_body", "{seed: 1}"], "--extra_body: not JSON"),
        (["--extra_body", '{"messages": []}'], "a JSON object without messages, model, n, stream"),
    ],
)
def test_options_that_can_not_be_meant_are_refused_before_anything_is_sent(flags, message, ask, stub, capsys):
    assert ask(*flags) == 2
    shown = capsys.readouterr().err
    assert message in shown and "pw" not in shown and not stub.seen


def test_without_a_key_none_is_sent(ask, stub, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert ask("--max_eval_samples", "1") == 0
    assert "Authorization" not in stub.seen[0][1]


def test_lines_that_are_no_replies_are_named(ask, tmp_path, capsys):
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "answers.jsonl").write_text('{"id": 1}\n')
    assert ask() == 2
    assert "answers.jsonl: line 1 is not a reply of this program" in capsys.readouterr().err
