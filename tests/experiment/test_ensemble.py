"""`ensemble`: runs of both frameworks answer as one, and are scored like any other."""

from __future__ import annotations

import json

import pytest

from experiment.cli import main
from tests.experiment.conftest import train_flags, write_corpus


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of PyTorch and one of TensorFlow."""
    root = tmp_path_factory.mktemp("ensemble")
    corpus = write_corpus(root)
    more = ["--seeds", "1", "--num_train_epochs", "30", "--eval_epochs", "30", "--learning_rate", "1e-2"]
    assert main(train_flags(corpus, root / "torch", *more)) == 0
    assert main(train_flags(corpus, root / "tf", *more, "--framework", "tensorflow")) == 0
    return root, corpus


def _ensemble(runs, *arguments):
    root, corpus = runs
    flags = ["--task", "cmrc2018", "--test_file", corpus.data, "--feature_cache_dir", root / "cache"]
    return main(list(map(str, ["ensemble", *arguments, *flags])))


def test_one_model_stays_what_it_is(runs, tmp_path):
    """Where each question has one window, an average of one model has the answers of the model."""
    root, corpus = runs
    assert _ensemble(runs, root / "torch", "--output_dir", tmp_path / "one") == 0
    assert _json(tmp_path / "one" / "predictions.json") == _json(root / "torch" / "seed_1" / "predictions_dev.json")


def test_models_of_both_frameworks_are_averaged_and_scored(runs, tmp_path, capsys):
    root, corpus = runs
    second = root / "tf" / "seed_1" / "checkpoint-best"
    assert _ensemble(runs, root / "torch", second, "--output_dir", tmp_path / "both") == 0
    said = capsys.readouterr().out
    assert "6 answers of 2 models written" in said
    protocol = _json(tmp_path / "both" / "protocol.json")
    assert [member["framework"] for member in protocol["members"]] == ["pytorch", "tensorflow"]
    scores, nbest = _json(tmp_path / "both" / "scores.json"), _json(tmp_path / "both" / "nbest_predictions.json")
    assert f"f1  {scores['values']['f1']:.3f}" in said and len(nbest) == 6
    table = ["leaderboard", root / "torch", "--task", "cmrc2018", "--data_file", corpus.data]
    assert main(list(map(str, [*table, "--predictions", f"both={tmp_path / 'both' / 'predictions.json'}"]))) == 0
    shown = capsys.readouterr().out
    assert "mean of the span probabilities of 2 models" in shown and f"{scores['values']['f1']:.3f}" in shown


def test_what_can_not_be_averaged_is_refused(runs, tmp_path, capsys):
    root, _ = runs
    checkpoint = root / "torch" / "seed_1" / "checkpoint-best"
    assert _ensemble(runs, root / "torch", checkpoint, "--output_dir", tmp_path / "out") == 2
    assert "a checkpoint stands there twice" in capsys.readouterr().err
    assert _ensemble(runs, root / "nothing", "--output_dir", tmp_path / "out") == 2
    assert "nothing" in capsys.readouterr().err and not (tmp_path / "out").exists()
