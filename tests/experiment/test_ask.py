"""`ask` answers line by line, from a pipe or a prompt, and shows each answer where it stands."""

from __future__ import annotations

import io
import re
import stat
import sys

import pytest

from experiment import Reader
from experiment.chat import prompt
from experiment.chat.session import Session
from experiment.cli import main
from experiment.reading.results import Alternative, Result, Window
from tests.support.served import corpus_questions, write_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("ask") / "model")


@pytest.fixture
def ask(checkpoint, monkeypatch, capsys):
    def call(lines, *flags):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status = main(["ask", "--model_name_or_path", str(checkpoint), *map(str, flags)])
        return status, *capsys.readouterr()

    return call


def test_questions_of_a_pipe_are_answered_in_frames(ask, checkpoint, tmp_path):
    (question, context), (second, _) = corpus_questions(2)
    file = tmp_path / "文章.txt"
    file.write_text(context, encoding="utf-8")
    status, output, errors = ask([question, "", second], "--file", file, "--n_best", "3")
    assert (status, errors) == (0, "")
    first_line, *frames = output.split("╭")
    assert first_line.strip() == f"{file}: {len(context)} characters; ask about them" and len(frames) == 2
    with Reader.load(checkpoint) as reader:
        own = reader.answer(question, context, n_best=3)
    assert f"【{own.text}】" in re.sub(r"[\s│]", "", frames[0]) and frames[0].count(" % ") >= 3
    assert f"{100 * own.confidence:.1f} % sure" in frames[0]
    assert f"characters {own.char_start} to {own.char_end}" in frames[0]
    assert "question>" not in output  # nobody is there to be prompted


def test_texts_and_settings_change_by_commands(ask, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("小猫住在北京。", encoding="utf-16")
    lines = ["谁？", f"/file {file}", "/n 2", "谁？", "/sure 1", "谁？", "/text 小狗", "住在上海。", "", "/show",
             "/hlep", "/n x", "/sure 3", "/file", "/file /nowhere", "/help", "/quit", "谁？"]  # fmt: skip
    status, output, errors = ask(lines)
    assert (status, errors) == (0, "")
    for said in (
        "there is no text to ask about yet",
        f"{file}: 7 characters",
        "(no answer that is sure enough)",
        "the text: 8 characters",
        "小狗\n住在上海。\n",
        "unknown command /hlep; did you mean 'help'",
        "/n x: a whole",
        "/sure 3: a number from 0 to 1",
        "/file PATH: a path",
        "/nowhere: no such file",
        "/quit         end",
    ):
        assert said in output, said
    assert output.count("╭") == 2  # nothing after /quit


def test_mistakes_end_with_a_line(ask, tmp_path):
    status, _, errors = ask([], "--file", tmp_path / "nothing")
    assert status == 2 and errors == f"error: {tmp_path / 'nothing'}: no such file; check the path\n"
    status, _, errors = ask([], "--file", tmp_path, "--context", "甲")
    assert status == 2 and "--file and --context both given" in errors
    (tmp_path / "x").write_bytes(b"\xff\xfa\x00")
    status, _, errors = ask([], "--file", tmp_path / "x")
    assert status == 2 and "not UTF-8 text" in errors


def test_what_moves_the_cursor_is_shown_by_its_code(ask):
    status, output, _ = ask(["谁\x1b[2J？", "/show"], "--context", "小猫\x1b[31m住\u202e在\n\n北京。")
    assert status == 0 and "\x1b" not in output and "\u202e" not in output
    assert r"\x1b[31m住\u202e在" in output


def test_a_pipe_is_read_as_utf_8_whatever_the_terminal_is_and_may_be_closed(ask, monkeypatch, capsys):
    piped = io.TextIOWrapper(io.BytesIO("\ufeff/show\n".encode() + b"\xff?\n"), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", piped)
    said = list(prompt.lines(lambda: "", None))
    assert said[0] == "/show" and len(said) == 2 and not prompt.typed()
    monkeypatch.setattr(sys, "stdin", None)  # as Python sets it where a program is started with <&-
    assert list(prompt.lines(lambda: "", None)) == [] and not prompt.typed()


def test_a_home_that_can_not_be_written_keeps_nobody_from_asking(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.setattr("builtins.input", lambda text: (_ for _ in ()).throw(EOFError))
    (tmp_path / "file").write_text("")
    assert list(prompt.lines(lambda: "> ", tmp_path / "file" / "history")) == []
    assert "history: File exists; what is typed is not kept" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_person_types_is_kept_for_the_next_time(tmp_path, monkeypatch):
    pytest.importorskip("readline")
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    typed = iter(["谁？", KeyboardInterrupt(), "在哪里？", EOFError()])
    prompts = []

    def read(text):
        import readline

        prompts.append(text)
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        readline.add_history(line)
        return line

    monkeypatch.setattr("builtins.input", read)
    history = tmp_path / "cache" / "history"
    assert list(prompt.lines(lambda: "question> ", history)) == ["谁？", "在哪里？"]
    assert prompts == ["question> "] * 4
    assert history.read_text(encoding="utf-8").splitlines()[-2:] == ["谁？", "在哪里？"]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_prompt_toolkit_is_used_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("prompt_toolkit")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    monkeypatch.setattr(sys, "stdin", _Terminal())
    history = tmp_path / "history"
    with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
        typed.send_text("谁？\n在哪里？\n\x04")
        assert list(prompt.lines(lambda: "> ", history)) == ["谁？", "在哪里？"]
    assert "谁？" in history.read_text(encoding="utf-8")


def test_answers_without_a_place_and_several_windows_are_said():
    from rich.console import Console

    output = io.StringIO()
    console = Console(file=output, width=100, highlight=False, markup=False)
    nbest = (Alternative("YES", -1, -1, -1, 0.75), Alternative("小猫", 0, 2, 0, 0.25))
    windows = (Window(0, 0, 5), Window(0, 3, 7))
    yes = Result("", True, "YES", "yes", -1, -1, -1, 0.75, nbest, windows, question_cut=True)
    none = Result("", False, "", "unknown", -1, -1, -1, 0.75, nbest, windows)
    unsure = Result("", False, "", "yes", -1, -1, -1, 0.75, nbest, windows)
    parts = Result("", True, "小猫北京", "spans", -1, -1, -1, 0.75, nbest, windows, value=["小猫", "北京"])
    answers = {"吗？": yes, "谁？": none, "否？": unsure, "都？": parts}

    class Says:
        def answer(self, question, context, **_):
            return answers[question]

    Session(Says(), console, "小猫住在北京。").run(list(answers))
    shown = re.sub(r"\s+", " ", output.getvalue())
    assert "75.0 % sure, 2 windows, the question was too long" in shown and "│ YES" in shown
    assert "│ (no answer) " in shown and "characters" not in shown
    assert shown.count("(no answer that is sure enough)") == 1 and '["小猫", "北京"]' in shown
