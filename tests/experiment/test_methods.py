"""Training methods from the command line: runs with them go on after a death, end early, and are refused in time."""

from __future__ import annotations

import importlib
import json
import signal

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from experiment.cli import main

LORA = ("--lora_rank", "2", "--ema_decay", "0.5", "--rdrop_alpha", "1", "--label_smoothing", "0.1")
LORA += ("--layerwise_lr_decay", "0.9")
ADVERSARIAL = ("--fgm_epsilon", "0.5", "--ema_decay", "0.5", "--reinit_layers", "1", "--layerwise_lr_decay", "0.9")
ADVERSARIAL += ("--gradient_accumulation_steps", "3", "--per_device_train_batch_size", "1")


def _record(run):
    return json.loads((run / "seed_1" / "record.json").read_text())


def _weights(run):
    return load_file(run / "seed_1" / "checkpoint-best" / "model.safetensors")


@pytest.mark.parametrize(
    ("framework", "methods"),
    [("pytorch", LORA), ("tensorflow", LORA), ("pytorch", ADVERSARIAL)],
    ids=["pytorch-lora", "tensorflow-lora", "pytorch-adversarial"],
)
def test_run_with_methods_goes_on_bit_exactly_and_leaves_an_ordinary_checkpoint(
    framework, methods, corpus, flags, tmp_path, monkeypatch
):
    backend = importlib.import_module({"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}[framework])

    def command(name):
        return flags(corpus, tmp_path / name, *methods, "--seeds", "1", "--framework", framework)

    assert main(command("whole")) == 0
    step, n_steps = backend.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        n_steps.append(1)
        if len(n_steps) == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(backend.Trainer, "step", dying)
        assert main(command("run")) == 130
    assert main(command("run")) == 0
    assert "goes on after step 3" in (tmp_path / "run" / "run.log").read_text()
    record, whole = _record(tmp_path / "run"), _record(tmp_path / "whole")
    assert record["evaluations"] == whole["evaluations"] and record["scores"] == whole["scores"]
    found, expected = _weights(tmp_path / "run"), _weights(tmp_path / "whole")
    assert found.keys() == expected.keys() and not any("lora" in name for name in found)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert record["config"]["ema_decay"] == 0.5 and record["config"]["layerwise_lr_decay"] == 0.9


def test_what_is_saved_is_the_average_that_was_evaluated(corpus, flags, tmp_path, monkeypatch):
    """With a decay of almost 1 the average stays where it began, whatever is learned: its scores do, too."""
    still, averaged = tmp_path / "still", tmp_path / "averaged"
    assert main(flags(corpus, still, "--seeds", "1", "--learning_rate", "0")) == 0
    assert main(flags(corpus, averaged, "--seeds", "1", "--ema_decay", "0.9999999")) == 0
    expected, found = _weights(still), _weights(averaged)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
    assert _record(averaged)["scores"] == _record(still)["scores"]
    losses = [evaluation["loss"] for evaluation in _record(averaged)["evaluations"]]
    assert losses != [evaluation["loss"] for evaluation in _record(still)["evaluations"]]  # it did learn


# --- early stopping ---

#: Four evaluations of a model that does not learn: the first is the best.
STILL = ("--seeds", "1", "--learning_rate", "0", "--num_train_epochs", "4", "--eval_epochs", "1")


@pytest.mark.parametrize(("patience", "n_evaluations"), [(0, 4), (1, 2), (2, 3), (9, 4)])
def test_training_ends_after_evaluations_that_are_no_better(patience, n_evaluations, corpus, flags, tmp_path):
    run = tmp_path / "run"
    assert main(flags(corpus, run, *STILL, "--early_stopping_patience", str(patience))) == 0
    record = _record(run)
    assert record["status"] == "finished" and record["step"] == 3 and "dev" in record["scores"]
    assert [evaluation["step"] for evaluation in record["evaluations"]] == [3, 6, 9, 12][:n_evaluations]
    assert ("stops at step" in (run / "run.log").read_text()) == (n_evaluations < 4)


def test_seed_that_died_when_it_had_ended_early_takes_no_further_step(corpus, flags, tmp_path, monkeypatch):
    command = flags(corpus, tmp_path / "run", *STILL, "--early_stopping_patience", "1")
    with monkeypatch.context() as patch:
        patch.setattr(
            "experiment.training.seed.predict_split", lambda *_: signal.raise_signal(signal.SIGTERM) or 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            main(command)
    assert main(command) == 0
    assert "goes on after step 6/12" in (tmp_path / "run" / "run.log").read_text()
    assert [evaluation["step"] for evaluation in _record(tmp_path / "run")["evaluations"]] == [3, 6]


# --- what is refused ---


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("--fgm_epsilon 1 --pgd_epsilon 1", "--fgm_epsilon and --pgd_epsilon both given"),
        ("--fgm_epsilon 1 --freeze_layers 1", "frozen word embeddings have no gradient"),
        ("--pgd_epsilon 1 --lora_rank 4", "under LoRA word embeddings have no gradient"),
        ("--lora_rank 4 --freeze_layers 1", "LoRA leaves all layers as they are"),
        ("--lora_rank 4 --reinit_layers 1", "LoRA would leave the new layers"),
        ("--freeze_layers 2", "--freeze_layers 2 > 1 layers"),
        ("--reinit_layers 2", "--reinit_layers 2 > 1 layers"),
        ("--freeze_layers 1 --reinit_layers 1", "what is drawn anew has to learn"),
        ("--ema_decay 1", "--ema_decay 1.0: must be at least 0 and less than 1"),
        ("--layerwise_lr_decay 0", "--layerwise_lr_decay 0.0: must be more than 0 and at most 1"),
        ("--lora_rank 2 --lora_targets querry", "did you mean 'query'"),
        ("--framework tensorflow --auto_find_batch_size --fgm_epsilon 1", "TensorFlow can't move them back"),
    ],
)
def test_methods_that_can_not_be_meant_are_refused(methods, said, corpus, flags, tmp_path, capsys):
    assert main(flags(corpus, tmp_path / "run", *methods.split())) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_unfinished_run_of_a_version_without_the_methods_goes_on(interrupted, corpus, flags):
    path = interrupted / "config.yaml"
    config = yaml.safe_load(path.read_text())
    older = {k: v for k, v in config.items() if not k.startswith(("lora", "fgm", "pgd", "ema", "early"))}
    assert len(older) < len(config)
    path.write_text(yaml.safe_dump(older))
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 0
    assert "goes on after step 3" in (interrupted / "run.log").read_text()


def test_plan_takes_the_methods(corpus, flags, tmp_path, capsys):
    command = flags(corpus, tmp_path / "run")
    options = [command[i : i + 2] for i in range(1, len(command) - 3, 2)]
    kept = [part for option in options if option[0] not in ("--output_dir", "--seeds") for part in option]
    arguments = ["--gpu", "t4", "--ema_decay", "0.9", "--rdrop_alpha", "1", "--lora_rank", "2"]
    assert main(["plan", *kept, *arguments]) == 0
    assert "t4" in capsys.readouterr().out
