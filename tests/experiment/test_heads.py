"""The head that XLNet's authors publish for SQuAD 2.0, by the commands: who learns with it, and who can't use it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pytorch_modeling
from experiment.backend import load_backend
from experiment.cli import main
from experiment.commands import parity as command
from experiment.inputs.heads import task_for
from experiment.inputs.settings import FILE_NAME
from experiment.parity.observe import observe
from preprocess.batch import collate, unpadded
from preprocess.template import Template
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import Outputs
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.published import read_config
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.problems.conditioned import ConditionedProblem
from tests.experiment.conftest import Corpus, train_flags, write_corpus
from tests.support.values import SPAN

SQUAD_V2 = get_task("squad_v2")
XLNET = {"model_type": "xlnet", "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32, "pad_token_id": 0}
XLNET |= {"initializer_range": 0.1, "dropout": 0.0, "start_n_top": 3, "end_n_top": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Questions with an answer, one without, and an XLNet."""
    corpus = write_corpus(tmp_path_factory.mktemp("heads"))
    data = json.loads(corpus.data.read_text("utf-8"))
    for article in data["data"]:
        for question in article["paragraphs"][0]["qas"]:
            question["is_impossible"] = False
    data["data"][0]["paragraphs"][0]["qas"].append(
        {"id": "NONE", "question": "有几本书？", "answers": [], "is_impossible": True}
    )
    corpus.data.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    vocab_size = len((corpus.model / "vocab.txt").read_text("utf-8").split())
    (corpus.model / "config.json").write_text(json.dumps({**XLNET, "vocab_size": vocab_size}), "utf-8")
    return corpus


def flags(corpus: Corpus, output: Path, *more: str) -> list[str]:
    return train_flags(corpus, output, "--task", "squad_v2", "--seeds", "1", *more)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "run"
    more = ["--num_train_epochs", "60", "--eval_epochs", "60", "--learning_rate", "1e-2"]
    assert main(flags(corpus, directory, *more)) == 0
    return directory


@pytest.fixture
def best(run) -> Path:
    return run / "seed_1" / "checkpoint-best"


def answers(checkpoint: Path, corpus: Corpus, output: Path, *more: str) -> dict[str, str]:
    given = ["--model_name_or_path", str(checkpoint), "--test_file", str(corpus.data), "--output_dir", str(output)]
    cache = ["--feature_cache_dir", str(corpus.data.parent / "cache")]
    assert main(["predict", *given, *cache, *more]) == 0
    return json.loads((output / "predictions.json").read_text("utf-8"))


def refused(capsys, arguments: list[str], *words: str) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said


def test_it_is_learned_saved_and_answered_with_in_both_frameworks(run, best, corpus, tmp_path):
    articles = json.loads(corpus.data.read_text("utf-8"))["data"]
    questions = [question for article in articles for question in article["paragraphs"][0]["qas"]]
    gold = {question["id"]: [answer["text"] for answer in question["answers"]] for question in questions}
    trained = json.loads((run / "seed_1" / "predictions_dev.json").read_text("utf-8"))
    assert sum(text in (gold[id] or [""]) for id, text in trained.items()) >= 6, trained
    assert trained["NONE"] == ""
    saved = json.loads((best / "config.json").read_text("utf-8"))
    assert saved["architectures"] == ["XLNetForQuestionAnswering"]
    assert (saved["start_n_top"], saved["end_n_top"]) == (3, 2)
    assert set(read_checkpoint(best).heads()) == {"start", "end", "unanswerable"}
    for framework in ("pytorch", "tensorflow"):
        more = ["--task", "squad_v2", "--framework", framework]
        assert answers(best, corpus, tmp_path / framework, *more) == trained


def test_tensorflow_learns_it_too(corpus, tmp_path):
    more = ["--num_train_epochs", "1", "--framework", "tensorflow"]
    assert main(flags(corpus, tmp_path / "run", *more)) == 0
    best = tmp_path / "run" / "seed_1" / "checkpoint-best"
    trained = json.loads((tmp_path / "run" / "seed_1" / "predictions_dev.json").read_text("utf-8"))
    assert answers(best, corpus, tmp_path / "again", "--task", "squad_v2", "--framework", "pytorch") == trained


@pytest.mark.parametrize("form", ["onnx", "exported_program", "saved_model"])
def test_every_form_of_export_holds_it(form, run, best, corpus, tmp_path):
    """Starts are searched in the graph; which tokens may be answers is a fourth input."""
    pytest.importorskip("onnxscript")
    exported = tmp_path / form
    flags = ["--output", str(exported), "--format", form, "--check", str(corpus.data)]
    assert main(["export", "--model_name_or_path", str(best), *flags]) == 0
    about = json.loads((exported / "mrc_export.json").read_text("utf-8"))
    assert list(about["inputs"])[3:] == ["answer_mask"]
    assert set(about["outputs"]) == {"start_logits", "end_logits", "unanswerable_logits"}
    assert about["check"]["largest_difference"] < 1e-4
    trained = json.loads((run / "seed_1" / "predictions_dev.json").read_text("utf-8"))
    assert answers(exported, corpus, tmp_path / "out", "--task", "squad_v2") == trained


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_it_is_computed_by_the_runtimes(runtime, best, corpus, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    trained = answers(best, corpus, tmp_path / "model", "--task", "squad_v2")
    assert answers(best, corpus, tmp_path / runtime, "--task", "squad_v2", "--framework", runtime) == trained


def test_it_is_not_averaged(run, corpus, tmp_path, capsys):
    ensemble = ["ensemble", str(run), "--task", "squad_v2", "--test_file", str(corpus.data)]
    refused(capsys, [*ensemble, "--output_dir", str(tmp_path / "out")], "checkpoint-best: the ends of its spans")


def test_it_answers_no_task_with_another_head(best, corpus, tmp_path, capsys):
    given = [
        "--model_name_or_path",
        str(best),
        "--test_file",
        str(corpus.data),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    refused(capsys, ["predict", "--task", "cmrc2018", *given], "fine-tuned for task squad_v2", "cmrc2018")


def test_it_goes_through_every_stage_of_the_comparison(best, corpus, capsys, monkeypatch):
    def observing(framework, job):
        return nullcontext(observe(load_backend(framework), job))

    monkeypatch.setattr(command, "observing", observing)  # in this process, which has imported both
    for given in (
        ["--config_name", str(corpus.model), "--max_seq_length", "64", "--data_file", str(corpus.data)],
        ["--model_name_or_path", str(best)],
    ):
        flags = ["--task", "squad_v2", "--steps", "2", "--feature_cache_dir", str(corpus.data.parent / "cache")]
        assert main(["parity", *given, *flags]) == 0
        said = capsys.readouterr().out
        assert "unanswerable logits" in said and ("predictions" in said) == ("--data_file" in given)


def test_it_is_converted_where_the_format_has_it(best, tmp_path, capsys):
    convert = ["convert", "--from", str(best)]
    assert main([*convert, "--to", "native", "--output", str(tmp_path / "native")]) == 0
    there, here = read_checkpoint(tmp_path / "native"), read_checkpoint(best)
    assert (there.config, there.heads(), there.namemap.name) == (here.config, here.heads(), "native")
    capsys.readouterr()
    # The authors' program takes its beams from flags, and would search others.
    refused(capsys, [*convert, "--to", "tf1", "--output", str(tmp_path / "tf1")], "start_n_top 3 (only 5)")


def test_only_the_family_and_the_task_that_it_was_published_for_have_it(corpus):
    xlnet = read_config(corpus.model)
    bert = ModelConfig(30, 16, 1, 2, 32)
    fitted = task_for(SQUAD_V2, xlnet, None).problem
    assert fitted == ConditionedProblem({"unknown": ""}, n_starts=3, n_ends=2)
    assert task_for(SQUAD_V2, bert, None) is SQUAD_V2
    for name in ("squad", "cmrc2018", "drcd", "cjrc"):
        task = get_task(name)
        assert task_for(task, xlnet, None) is task


def test_a_model_that_was_fine_tuned_with_a_plain_head_keeps_it(corpus, tmp_path):
    config = read_config(corpus.model)
    model = pytorch_modeling.build_model(config, SPAN, device="cpu", seed=0)
    pytorch_modeling.save_weights(model, tmp_path)
    (tmp_path / "vocab.txt").write_bytes((corpus.model / "vocab.txt").read_bytes())
    checkpoint = read_checkpoint(tmp_path)
    assert task_for(SQUAD_V2, config, checkpoint) is SQUAD_V2
    assert set(answers(tmp_path, corpus, tmp_path / "out", "--task", "squad_v2", "--max_seq_length", "64")) > {"NONE"}


def test_beams_are_no_part_of_what_an_architecture_is_hashed_by(corpus):
    config = read_config(corpus.model)
    assert config.architecture == replace(config, start_n_top=9, end_n_top=9).architecture
    assert config.architecture != replace(config, clamp_len=3).architecture
    assert np.isin(["vocab_size", "untie_r", "clamp_len"], list(config.architecture)).all()


def test_it_is_asked_with_windows_and_decoding_alone(best, corpus, tmp_path):
    """As docs/exports.md says: onnxruntime, the windows of the problem, and its decoding."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    bundle = tmp_path / "onnx"
    assert main(["export", "--model_name_or_path", str(best), "--output", str(bundle), "--format", "onnx"]) == 0
    about, settings, config = (
        json.loads((bundle / name).read_text("utf-8")) for name in ("mrc_export.json", FILE_NAME, "config.json")
    )
    options = {name: value for name, value in settings["options"].items() if value is not None}
    decoding = {name: options.pop(name) for name in ("n_best_size", "max_answer_length", "null_score_diff_threshold")}
    task = get_task(settings["task"])
    problem = task.conditioned(config["start_n_top"], config["end_n_top"])
    questions = list(task.read(corpus.data)[0])
    tokenizer = load_tokenizer(bundle, about["tokenizer"]["do_lower_case"])
    windows = problem.encode(
        questions,
        [None] * len(questions),
        tokenizer,
        transform=task.transform,
        template=Template(**about["template"]),
        **options,
    )
    batch = collate(windows, range(len(windows)))
    session = runtime.InferenceSession(bundle / about["entry"], providers=["CPUExecutionProvider"])
    logits = session.run(list(about["outputs"]), {n: batch.inputs[n].astype("int64") for n in about["inputs"]})
    values = {name.removesuffix("_logits"): x for name, x in zip(about["outputs"], logits, strict=True)}
    outputs = unpadded(windows, Outputs(batch.window, values))
    found = problem.decode(questions, windows, [outputs], DecodeOptions(**decoding))
    assert {id: one.text for id, one in found.items()} == answers(best, corpus, tmp_path / "model")
