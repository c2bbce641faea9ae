"""The commands and programs of docs/serving.md and docs/python-api.md do what the pages say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiment.cli import main
from preprocess.tokenizers.base import load_tokenizer
from pretrained_configs.config import ModelConfig
from tests.support.served import CORPUS, write_finished_run
from tests.support.values import SPAN

ROOT = Path(__file__).resolve().parents[2]
RUN = "python run_mrc.py "


def _blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S)


def _commands(page):
    return [line.removeprefix("$ ") for block in _blocks(page, "console") for line in block.splitlines()]


def test_programs_of_the_page_about_python_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    from pytorch_modeling import build_model, save_weights

    model = tmp_path / "hfl/chinese-roberta-wwm-ext"
    model.mkdir(parents=True)
    tokenizer = load_tokenizer(CORPUS / "vocab.txt")
    tokenizer.save(model)
    save_weights(build_model(ModelConfig(tokenizer.vocab_size, 16, 1, 2, 16), SPAN, device="cpu", seed=1), model)
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        data = json.loads((CORPUS / f"demo_{split}.json").read_text(encoding="utf-8"))
        data["data"] = data["data"][:2]
        (tmp_path / f"data/cmrc2018_{split}.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, object] = {}
    programs = _blocks("python-api.md", "python")
    assert len(programs) == 6
    for program in programs:
        exec(program, names)
    output = capsys.readouterr().out
    assert "| cmrc2018 | dev |" in output and "who 0 " in output and "False" in output


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    write_finished_run(tmp_path / "runs/cmrc2018", {1: 50.0})
    (tmp_path / "article.txt").write_text("许云松开店于1765年。", encoding="utf-8")
    (tmp_path / "questions.txt").write_text("谁开店？\n哪一年？\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MRC_API_KEY", raising=False)


def test_the_chat_of_the_page_answers(workplace, monkeypatch, capsys):
    asked = [command for command in _commands("serving.md") if " ask " in command]
    assert len(asked) == 2
    for command in asked:
        command, _, questions = command.removeprefix(RUN).partition(" < ")
        with open(questions or "questions.txt", encoding="utf-8") as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out.count("╭") == 2


def test_the_server_of_the_page_answers_its_requests_and_ends_when_told(workplace, monkeypatch, capsys):
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    from experiment.serving import run

    (serve,) = [command for command in _commands("serving.md") if " serve " in command]
    requests = [command for command in _commands("serving.md") if command.startswith("curl ")]
    (program,) = _blocks("serving.md", "python")
    replies: list[str] = []

    class Used(run.Server):
        """Ends when the requests of the page have been answered."""

        def run(self, sockets=None):
            address = f"127.0.0.1:{sockets[0].getsockname()[1]}"
            user = threading.Thread(target=self._use, args=(address,))
            user.start()
            super().run(sockets)
            user.join()

        def _use(self, address):
            try:
                while not self.started:
                    time.sleep(0.01)
                for command in requests:
                    here = shlex.split(command.replace("127.0.0.1:8000", address))
                    replies.append(subprocess.run(here, capture_output=True, text=True, timeout=60).stdout)
                exec(program.replace("127.0.0.1:8000", address), {"print": lambda *said: replies.append(said[0])})
            finally:
                self.should_exit = True

    monkeypatch.setattr(run, "Server", Used)
    monkeypatch.setattr("urllib.request._opener", None)  # made for the first request of all, with the proxies of then
    assert main(shlex.split(serve.removeprefix(RUN).replace("8000", "0"))) == 0
    one, many, ready, metrics, answer = replies
    (first,) = json.loads(one)["answers"]
    assert first["text"] == answer != "" and len(first["n_best"]) == 2
    assert [each["id"] for each in json.loads(many)["answers"]] == ["a", "b"]
    assert json.loads(ready) == {"status": "ready"} and "mrc_questions_total 3.0" in metrics
    line, *log = capsys.readouterr().err.splitlines()
    assert line.startswith("cmrc2018") and "for task cmrc2018 at http://127.0.0.1:" in line
    assert [json.loads(each)["status"] for each in log] == [200] * 5


def test_a_server_that_can_not_start_says_why_in_a_line(workplace, capsys):
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    import socket

    command = ["serve", "--model_name_or_path", "runs/cmrc2018"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([*command, "--port", port]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error == f"error: --host 127.0.0.1 --port {port}: Address already in use; give others"
    assert main([*command, "--host", "0.0.0.0"]) == 2
    assert "others could ask without a key; set the variable MRC_API_KEY" in capsys.readouterr().err
    assert main([*command, "--port", "0", "--device", "cuda:99"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --device cuda:99: no such device here")


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("experiment.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--model_name_or_path", "anything"]) == 2
    said = "error: serve: uvicorn is not installed; pip install 'chinese-mrc[serve]' installs it\n"
    assert capsys.readouterr().err == said
