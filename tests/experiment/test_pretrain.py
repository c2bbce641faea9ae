"""Pretraining on texts by the command: it learns, goes on after a death, and leaves what `train` starts from."""

from __future__ import annotations

import functools
import json
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.kill import digest
from experiment.cli import main
from experiment.inputs.data import Data
from experiment.training.mixture import Mixture, Source
from preprocess.masking import Masking
from preprocess.template import TEMPLATES
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import NO_TARGET, Example
from tasks.problems.masked_lm import PIECE, MaskedProblem, report, scorer
from tests.experiment.conftest import write_corpus

TEXTS = [
    "小猫住在北京。小狗住在上海。",
    "张三喜欢苹果，李四喜欢香蕉。",
    "王五有三本书，赵六有九支笔。",
    "小狗喜欢北京的苹果。",
]
FRAMEWORKS = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}
#: One step after the other is saved, and lines of the log fall on other steps.
STEPS = ("--save_steps", "1", "--logging_steps", "5", "--eval_epochs", "1", "--num_train_epochs", "4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pretrain")
    corpus = write_corpus(directory)
    (directory / "texts.txt").write_text("\n".join(["", *TEXTS, "  "]), encoding="utf-8")
    return corpus, directory / "texts.txt"


def _command(place, output, *more):
    corpus, texts = place
    return [
        "pretrain", "--text_file", str(texts), "--validation_file", str(texts), "--output_dir", str(output),
        "--config_name", str(corpus.model), "--max_seq_length", "64", "--per_device_train_batch_size", "2",
        "--learning_rate", "1e-2", "--feature_cache_dir", str(texts.parent / "cache"), "--seeds", "1",
        "--report_to", "none", *more,
    ]  # fmt: skip


@pytest.fixture
def flags(place):
    return functools.partial(_command, place)


def _error(capsys, command):
    assert main(command) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module", params=FRAMEWORKS)
def pretrained(request, place, tmp_path_factory):
    """The run directory of each framework, of which the whole of its texts was learned."""
    if request.param == "tensorflow":
        pytest.importorskip("tensorflow")
    output = tmp_path_factory.mktemp("runs") / request.param
    more = ("--num_train_epochs", "40", "--eval_epochs", "10", "--masked_lm_prob", "0.3", "--logging_steps", "20")
    command = _command(place, output, "--framework", request.param, "--learning_rate", "2e-2", *more)
    assert main(command) == 0
    return output


def test_the_loss_goes_down_and_is_said(pretrained):
    record = json.loads((pretrained / "seed_1/record.json").read_text())
    losses = [evaluation["dev"]["loss"] for evaluation in record["evaluations"]]
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0] and losses[0] < np.log(60)
    best = record["scores"]["dev"]
    # The checkpoint with the lowest loss is the one that is kept.
    assert best["loss"] == min(losses) and best["perplexity"] == pytest.approx(np.exp(best["loss"]))
    assert record["task"] == "masked_lm" and set(record["hashes"]) >= {"train_file", "dev_file", "tokenizer"}
    assert "hidden pieces of 4 texts: loss" in (pretrained / "run.log").read_text(encoding="utf-8")


def test_what_is_left_is_a_model_to_start_from(pretrained, place, flags, tmp_path):
    best = pretrained / "seed_1/checkpoint-best"
    # No settings: it answers nothing, and its windows and casing are those of a pretrained model.
    assert {path.name for path in best.iterdir()} == {
        "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"
    }  # fmt: skip
    weights = load_file(best / "model.safetensors")
    assert weights["cls.predictions.bias"].any() and "cls.predictions.decoder.weight" not in weights
    corpus, _ = place
    framework = pretrained.name
    fine_tuned = [
        "train", "--task", "cmrc2018", "--model_name_or_path", str(best), "--train_file", str(corpus.data),
        "--validation_file", str(corpus.data), "--output_dir", str(tmp_path / "tuned"), "--max_seq_length", "64",
        "--learning_rate", "0", "--num_train_epochs", "1", "--seeds", "1", "--feature_cache_dir", "None",
        "--framework", framework, "--report_to", "none",
    ]  # fmt: skip
    assert main(fine_tuned) == 0
    tuned = load_file(tmp_path / "tuned/seed_1/checkpoint-best/model.safetensors")
    encoder = {name for name in weights if name.startswith("bert.")}
    assert encoder and all((tuned[name] == weights[name]).all() for name in encoder)
    assert not any(name.startswith("cls.") for name in tuned)
    # And pretraining itself goes on from it with the head that it has learned.
    again = [name for name in flags(tmp_path / "again", "--learning_rate", "0", "--num_train_epochs", "1")]
    at = again.index("--config_name")
    again[at : at + 2] = ["--model_name_or_path", str(best)]
    assert main([*again, "--framework", framework, "--masked_lm_prob", "0.3"]) == 0
    first, second = (
        json.loads((run / "seed_1/record.json").read_text())["scores"]["dev"]["loss"]
        for run in (pretrained, tmp_path / "again")
    )
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize(
    ("framework", "deaths"),
    [("pytorch", ((3, 130), (2, 1))), ("tensorflow", ((3, 130),))],  # a signal, and what nobody foresaw
)
def test_an_interrupted_run_ends_as_the_undisturbed_one(framework, deaths, flags, tmp_path, monkeypatch):
    backend = pytest.importorskip(FRAMEWORKS[framework])
    options = (*STEPS, "--framework", framework, "--masking", "ngram")
    assert main(flags(tmp_path / "undisturbed", *options)) == 0
    step = backend.Trainer.step
    for deadly, status in deaths:
        n_steps = []

        def dying(self, batches, n_steps=n_steps, deadly=deadly, status=status):
            if len(n_steps) == deadly and status == 1:
                raise AssertionError("died")
            step(self, batches)
            n_steps.append(1)
            if len(n_steps) == deadly and status == 130:
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(backend.Trainer, "step", dying)
            if status == 1:
                with pytest.raises(AssertionError, match="died"):
                    main(flags(tmp_path / "run", *options))
            else:
                assert main(flags(tmp_path / "run", *options)) == status
    assert main(flags(tmp_path / "run", *options)) == 0
    assert digest(tmp_path / "run") == digest(tmp_path / "undisturbed")
    assert (tmp_path / "run/run.log").read_text().count("goes on after step") == len(deaths)


@pytest.fixture(scope="module")
def data(place):
    tokenizer = load_tokenizer(place[0].model)
    problem = MaskedProblem(Masking(mask_id=4, random_ids=np.arange(5, tokenizer.vocab_size), share=0.3))
    examples = [Example(str(i), "", text) for i, text in enumerate(TEXTS)]
    windows = {"max_seq_length": 24, "doc_overlap": 0, "template": TEMPLATES["bert"]}
    features = problem.encode(examples, [None] * len(examples), tokenizer, **windows)
    return Data(examples, features, problem)


def _masks(mixture, n_epochs):
    """Return what each epoch hides: window -> ids, places and targets."""
    epochs = [{} for _ in range(n_epochs)]
    draws = mixture.draws(0)
    for step in range(n_epochs * mixture.per_epoch):
        for batch in next(draws).batches(2):
            for row, window in enumerate(batch.window.tolist()):
                counted = batch.targets[PIECE][row] != NO_TARGET
                real = batch.inputs["attention_mask"][row] == 1
                epochs[step // mixture.per_epoch][window] = (
                    tuple(batch.inputs["input_ids"][row][real]),
                    tuple(batch.inputs["places"][row][counted]),
                    tuple(batch.targets[PIECE][row][counted]),
                )
    return epochs


def test_masks_are_a_function_of_seed_epoch_and_window(data):
    task = type("Anything", (), {"problem": data.drawing})()
    source = Source(task, data)
    first, second = _masks(Mixture((source,), 2, seed=7), 2)
    assert first.keys() == second.keys() == set(range(len(data.features)))
    assert sum(first[window] != second[window] for window in first) >= len(first) - 1
    # However the windows are shared out to steps, and from whatever step on the order is entered.
    for mixture in (Mixture((source,), 3, seed=7), Mixture((source,), 1, seed=7, group_by_length=False)):
        assert _masks(mixture, 2) == [first, second]
    mixture = Mixture((source,), 2, seed=7)
    late = next(mixture.draws(mixture.per_epoch)).batches(2)[0]
    assert tuple(late.inputs["places"][0][late.targets[PIECE][0] != NO_TARGET]) == second[int(late.window[0])][1]
    assert _masks(Mixture((source,), 2, seed=8), 1) != [first]
    # What is evaluated is always the same, and none of them.
    once, again = (data.batch(np.arange(3)).inputs["places"].tolist() for _ in range(2))
    assert once == again


def test_windows_follow_each_other_and_have_no_question(data):
    features = data.features
    texts = [
        "".join(TEXTS[example][start:end] for start, end in features.piece_spans[first : first + n])
        for example, first, n in zip(
            features.example_index,
            features.piece_splits[features.context_index] + features.piece_start,
            features.doc_length,
            strict=True,
        )
    ]
    assert "".join(texts) == "".join(TEXTS)
    batch = data.batch(np.arange(len(features)))
    assert not batch.inputs["token_type_ids"].any()
    assert (batch.targets[PIECE] != NO_TARGET).any(1).all()


def test_guesses_are_summed_up_over_pieces():
    said = {
        "1": json.dumps({"hidden": 3, "right": 3, "log_likelihood": -0.3}),
        "2": json.dumps({"hidden": 1, "right": 0, "log_likelihood": -2.1}),
    }
    examples = [Example(id, "", "x") for id in ("1", "2", "3")]
    score = scorer(examples)(said)
    assert score.values["loss"] == pytest.approx(0.6) and score.values["log_likelihood"] == pytest.approx(-0.6)
    assert score.values["accuracy"] == 75.0 and score.values["perplexity"] == pytest.approx(np.exp(0.6))
    assert (score.n, score.n_missing) == (3, 1)
    assert report(examples, said)["lines"] == [
        "4 hidden pieces of 3 texts: loss 0.6000, perplexity 1.82, 75.0 % guessed right"
    ]


def test_contexts_of_a_task_are_read_once_and_some_are_held_out(place, flags, tmp_path):
    corpus, texts = place
    command = flags(
        tmp_path / "run", "--task", "cmrc2018", "--train_file", str(corpus.data), "--num_train_epochs", "1"
    )
    at = command.index("--validation_file")
    del command[at : at + 2]
    assert main(command) == 0
    reports = json.loads((tmp_path / "run/data_report.json").read_text(encoding="utf-8"))
    # Three contexts of six questions; of the four lines three are those again.
    assert reports["train"]["n_texts"] == 4 and reports["train"]["n_trained"] == 3 and reports["dev"]["n_texts"] == 1
    assert reports["train"]["encoding"]["n_examples"] == 3


def test_a_task_that_converts_its_texts_is_read_converted(tmp_path, place):
    from experiment.inputs.texts import read_texts
    from tasks.core.discovery import get_task

    corpus, _ = place
    path = tmp_path / "drcd.json"
    path.write_text(corpus.data.read_text(encoding="utf-8").replace("张三喜欢", "張三喜歡"), encoding="utf-8")
    texts = [example.context for example in read_texts(get_task("drcd"), [path], []).texts]
    assert any(text.startswith("张三喜欢") for text in texts)


def test_mistakes_are_one_line(place, flags, tmp_path, capsys):
    corpus, texts = place
    said = _error(capsys, flags(tmp_path / "a", "--train_file", str(corpus.data)))
    assert "--train_file without --task" in said and said.count("\n") == 1
    binary = tmp_path / "gbk.txt"
    binary.write_bytes("北京的苹果".encode("gbk"))
    assert "gbk.txt: not UTF-8" in _error(capsys, flags(tmp_path / "a", "--text_file", str(binary)))
    (tmp_path / "empty.txt").write_text(" \n\n")
    assert "no text to read" in _error(capsys, flags(tmp_path / "a", "--text_file", str(tmp_path / "empty.txt")))
    assert "more than 0 and less than 1" in _error(capsys, flags(tmp_path / "a", "--masked_lm_prob", "1.5"))
    none = [name for name in flags(tmp_path / "a") if name not in ("--text_file", str(texts), "--validation_file")]
    assert "no texts: give --text_file" in _error(capsys, none)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changes", "vocabulary", "said"),
    [
        ({"model_type": "xlnet"}, None, "type 'xlnet' is not pre-trained to guess hidden pieces from both sides"),
        ({}, "[MASK]", "no token that stands for a hidden piece"),
    ],
)
def test_models_that_can_not_guess_are_refused(place, flags, tmp_path, capsys, changes, vocabulary, said):
    corpus, _ = place
    model = tmp_path / "model"
    model.mkdir()
    config = json.loads((corpus.model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))
    pieces = (corpus.model / "vocab.txt").read_text(encoding="utf-8")
    (model / "vocab.txt").write_text(pieces.replace(vocabulary or "\0", "猪"), encoding="utf-8")
    command = flags(tmp_path / "run")
    command[command.index("--config_name") + 1] = str(model)
    assert said in _error(capsys, command)
    assert not (tmp_path / "run").exists()


def test_similar_words_take_the_place_of_masks(place, flags, tmp_path, capsys):
    table = tmp_path / "similar.txt"
    table.write_text("北京 上海\n苹果 香蕉\n", encoding="utf-8")
    options = ("--similar_words", str(table), "--num_train_epochs", "1")
    assert main(flags(tmp_path / "run", *options)) == 0
    assert "2 of 2 words have a similar one of as many pieces" in (tmp_path / "run/run.log").read_text("utf-8")
    record = json.loads((tmp_path / "run/seed_1/record.json").read_text())
    assert len(record["hashes"]["similar_words"]) == 64
