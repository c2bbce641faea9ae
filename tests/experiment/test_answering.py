"""A fine-tuned model answers as it did in training, as often as it is asked, and what it left unread is said."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

import experiment.commands.predict
import pytorch_modeling
from experiment.cli import main
from experiment.inputs.data import read_examples
from experiment.reading.reader import Reader
from preprocess.base.errors import UsageError
from preprocess.types import Example
from tasks.core.discovery import get_task

CORPUS = Path(__file__).resolve().parents[2] / "examples" / "corpus"
MODEL = {
    "vocab_size": 432,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 96,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Fine-tune on the first articles of a corpus, once per task: returns name -> (directory of the seed, data)."""
    root = tmp_path_factory.mktemp("answering")
    (root / "config.json").write_text(json.dumps(MODEL))
    done = {}

    def seed(task, corpus, *more):
        if task not in done:
            data = json.loads((CORPUS / f"{corpus}.json").read_text(encoding="utf-8"))
            data["data"] = data["data"][:3]
            file = root / f"{corpus}.json"
            file.write_text(json.dumps(data), encoding="utf-8")
            command = [
                "train", "--task", task, "--config_name", root / "config.json", "--tokenizer_name",
                CORPUS / "vocab.txt", "--train_file", file, "--validation_file", file, "--output_dir", root / task,
                "--max_seq_length", "64", "--doc_stride", "16", "--learning_rate", "1e-2", "--num_train_epochs", "2",
                "--per_device_train_batch_size", "8", "--feature_cache_dir", "None", "--seeds", "1", *more,
            ]  # fmt: skip
            assert main(list(map(str, command))) == 0
            done[task] = root / task / "seed_1", file
        return done[task]

    return seed


@pytest.fixture
def drcd(seeds):
    """A model that has learned from the text as published, not from DRCD's own conversion to simplified Chinese."""
    return seeds("drcd", "demo_drcd_dev", "--opencc_config", "none")


@pytest.fixture
def cmrc(seeds):
    return seeds("cmrc2018", "demo_dev")


def _predict(seed, task, *more):
    named = () if task is None else ("--task", task)
    command = ["predict", *named, "--model_name_or_path", seed / "checkpoint-best", *more]
    return main(list(map(str, command)))


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_model_answers_on_the_text_that_it_has_learned_from(drcd, tmp_path, capsys):
    """DRCD fine-tuned with --opencc_config none lost five points of F1 when predict converted its text."""
    seed, data = drcd
    flags = ("--test_file", data, "--feature_cache_dir", "None", "--output_dir")
    assert _predict(seed, "drcd", *flags, tmp_path / "same") == 0
    assert capsys.readouterr().err == ""
    trained = _json(seed / "predictions_dev.json")
    assert _json(tmp_path / "same" / "predictions.json") == trained
    assert (tmp_path / "same" / "nbest_predictions.json").read_bytes() == (
        seed / "nbest_predictions_dev.json"
    ).read_bytes()
    assert _predict(seed, "drcd", *flags, tmp_path / "other", "--opencc_config", "t2s") == 0
    assert capsys.readouterr().err == "warning: --opencc_config t2s overrules the checkpoint's none\n"
    assert _json(tmp_path / "other" / "predictions.json") != trained  # else the text would make no difference


class Stop(Exception):
    """Ends a command where what was looked for has been seen."""


def _stop(*arguments, **_):
    raise Stop(*arguments)


def test_parity_takes_the_windows_that_the_model_has_learned_from(drcd, monkeypatch, capsys):
    seed, data = drcd
    monkeypatch.setattr("experiment.commands.parity.observing", _stop)
    command = ["parity", "--task", "drcd", "--model_name_or_path", seed / "checkpoint-best", "--data_file", data]
    ids = []
    for more in ((), ("--opencc_config", "none"), ("--opencc_config", "t2s")):
        with pytest.raises(Stop) as stopped:
            main(list(map(str, [*command, "--feature_cache_dir", "None", "--steps", "1", *more])))
        _, job = stopped.value.args
        ids.append([batch.inputs["input_ids"].tolist() for batch in job.eval_batches])
    assert ids[0] == ids[1] != ids[2]
    assert capsys.readouterr().err == "warning: --opencc_config t2s overrules the checkpoint's none\n"


def test_stats_and_export_read_the_settings_too(drcd, tmp_path, monkeypatch, capsys):
    seed, data = drcd
    checkpoint = str(seed / "checkpoint-best")
    command = ["stats", "--task", "drcd", "--data_file", str(data), "--tokenizer_name", checkpoint]
    assert main([*command, "--max_query_length", "9"]) == 0
    assert capsys.readouterr().err == "warning: --max_query_length 9 overrules the checkpoint's 64\n"
    monkeypatch.setattr("experiment.commands.export.load_backend", _stop)
    command = ["export", "--model_name_or_path", checkpoint, "--output", str(tmp_path / "out")]
    with pytest.raises(Stop):
        main([*command, "--do_lower_case", "False"])
    assert "fine-tuned with do_lower_case True, here False" in capsys.readouterr().err


def test_model_of_another_task_with_the_same_head_answers_with_a_line(drcd, cmrc, tmp_path, capsys):
    _, data = cmrc
    flags = ("--test_file", data, "--feature_cache_dir", "None", "--output_dir", tmp_path)
    assert _predict(drcd[0], "cmrc2018", *flags) == 0
    assert "fine-tuned for task drcd; for cmrc2018" in capsys.readouterr().err
    assert _json(tmp_path / "predictions.json").keys() == {
        example.id for example in read_examples(get_task("cmrc2018"), data)[0]
    }


def test_model_of_another_head_is_refused_with_both_tasks(drcd, capsys):
    assert _predict(drcd[0], "cjrc", "--question", "誰？", "--context", "甲") == 2
    (error,) = capsys.readouterr().err.splitlines()[-1:]
    assert error.startswith("error: ") and "fine-tuned for task drcd" in error and "give --task drcd" in error


def test_loaded_once_it_answers_any_number_of_times(cmrc, monkeypatch, capsys, tmp_path):
    seed, data = cmrc
    loads, load = [], pytorch_modeling.load_model
    monkeypatch.setattr(pytorch_modeling, "load_model", lambda *a, **o: loads.append(a) or load(*a, **o))
    monkeypatch.setenv("HOME", str(tmp_path))  # where the cache of features would be
    reader = Reader.load(seed / "checkpoint-best", device="cpu")
    examples, _ = read_examples(get_task("cmrc2018"), data)
    expected = _json(seed / "predictions_dev.json")
    for _ in range(2):
        answers = reader.predict(examples)
        assert {id: prediction.text for id, prediction in answers.items()} == expected
    question = examples[0]
    ((id, answer),) = reader.predict([question]).items()
    assert id == question.id and answer.text == question.context[answer.char_start : answer.char_end]
    assert reader.predict([]) == {} and reader.answer_many([]) == []
    assert len(loads) == 1
    assert capsys.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_options_of_the_reader_are_those_of_predict(cmrc):
    checkpoint = str(cmrc[0] / "checkpoint-best")
    with pytest.raises(UsageError, match="--device cuda:99"):
        Reader.load(checkpoint, task="cmrc2018", device="cuda:99")
    prepared = Reader.load(checkpoint, task="cmrc2018", max_answer_length=1).prepared
    assert prepared.notes == ["--max_answer_length 1 overrules the checkpoint's 50"]
    assert prepared.windows([Example("q", "问", "甲乙")], cached=False).features.meta["max_seq_length"] == 64


def test_one_question_is_printed_alone_and_leaves_no_entry_in_the_cache(cmrc, tmp_path, capsys):
    seed, data = cmrc
    (example, *_), _ = read_examples(get_task("cmrc2018"), data)
    flags = ("--question", example.question, "--context", example.context, "--feature_cache_dir", tmp_path)
    assert _predict(seed, "cmrc2018", *flags) == 0
    output, errors = capsys.readouterr()
    answer, place = output.rstrip("\n").split("  [")
    start, end = map(int, place.partition("]")[0].split(":"))
    assert answer and answer == example.context[start:end]
    assert errors == "" and not list(tmp_path.iterdir())


def test_question_that_was_cut_is_said(cmrc, tmp_path, capsys):
    seed, data = cmrc
    flags = ("--feature_cache_dir", "None", "--max_query_length", "8")
    overruled = "warning: --max_query_length 8 overrules the checkpoint's 64\n"
    assert _predict(seed, "cmrc2018", "--question", "谁在哪里" * 3, "--context", "甲在北京", *flags) == 0
    cut = "warning: the question was cut to 8 tokens; --max_query_length raises that\n"
    assert capsys.readouterr().err == overruled + cut
    assert _predict(seed, "cmrc2018", "--question", "谁在哪里" * 2, "--context", "甲在北京", *flags) == 0
    assert capsys.readouterr().err == overruled
    lengths = [len(example.question) for example in read_examples(get_task("cmrc2018"), data)[0]]
    n_cut = sum(length > 8 for length in lengths)  # a character is a piece in this corpus
    assert 0 < n_cut < len(lengths)
    assert _predict(seed, "cmrc2018", "--test_file", data, "--output_dir", tmp_path, *flags) == 0
    cut = f"warning: {n_cut} of {len(lengths)} questions were cut to 8 tokens; --max_query_length raises that\n"
    assert capsys.readouterr().err == overruled + cut


def test_output_directory_is_looked_at_before_the_model_is_read(cmrc, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pytorch_modeling, "load_model", lambda *_a, **_o: pytest.fail("the model was read"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / "predictions.json").mkdir(parents=True)
    for name, expected in (("file", "a file stands there"), ("out", "predictions.json in it is a directory")):
        assert _predict(cmrc[0], "cmrc2018", "--test_file", cmrc[1], "--output_dir", tmp_path / name) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: --output_dir {tmp_path / name}: ") and expected in error


def test_answers_outlive_a_disk_that_fills_up_while_they_are_computed(cmrc, tmp_path, monkeypatch, capsys):
    write = experiment.commands.predict.write_predictions

    def full(task, examples, directory, predictions):
        if directory == tmp_path / "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(task, examples, directory, predictions)

    monkeypatch.setattr(experiment.commands.predict, "write_predictions", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flags = ("--test_file", cmrc[1], "--feature_cache_dir", "None", "--output_dir", tmp_path / "full")
    assert _predict(cmrc[0], "cmrc2018", *flags) == 2
    (error,) = capsys.readouterr().err.splitlines()
    (kept,) = tmp_path.glob("predictions-*")
    assert "No space left on device" in error and error.endswith(f"the answers are kept in {kept}")
    assert _json(kept / "predictions.json") == _json(cmrc[0] / "predictions_dev.json")


def test_model_answers_the_task_that_it_was_fine_tuned_for_where_none_is_named(drcd, tmp_path):
    flags = ("--test_file", drcd[1], "--feature_cache_dir", "None", "--output_dir", tmp_path)
    assert _predict(drcd[0], None, *flags) == 0
    assert _json(tmp_path / "predictions.json") == _json(drcd[0] / "predictions_dev.json")


@pytest.mark.parametrize("command", ["inspect", "prune_vocabulary", "export"])
def test_run_stands_for_its_best_seed(cmrc, tmp_path, capsys, command):
    flags = {
        "inspect": ("--model_name_or_path", "MODEL"),
        "prune_vocabulary": ("MODEL", "--data_files", cmrc[1], "--output", tmp_path / "out"),
        "export": ("--model_name_or_path", "MODEL", "--format", "exported_program", "--output", tmp_path / "out"),
    }[command]
    said = []
    for model in (cmrc[0].parent, cmrc[0] / "checkpoint-best"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert main([command, *(str(model if flag == "MODEL" else flag) for flag in flags)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_older_settings_file_is_used_with_a_line(cmrc, tmp_path, capsys):
    shutil.copytree(cmrc[0] / "checkpoint-best", tmp_path / "checkpoint-best")
    settings = tmp_path / "checkpoint-best" / "mrc_settings.json"
    values = _json(settings)
    settings.write_text(json.dumps({name: values[name] for name in ("task", "version", "options")}))
    flags = ("--test_file", cmrc[1], "--feature_cache_dir", "None", "--output_dir", tmp_path / "out")
    assert _predict(tmp_path, "cmrc2018", *flags) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "of an older version" in line
    assert _json(tmp_path / "out" / "predictions.json") == _json(cmrc[0] / "predictions_dev.json")


def test_weights_without_settings_take_the_recipe_of_the_task(cmrc, tmp_path, capsys):
    shutil.copytree(cmrc[0] / "checkpoint-best", tmp_path / "checkpoint-best")
    (tmp_path / "checkpoint-best" / "mrc_settings.json").unlink()
    with pytest.raises(UsageError, match="does not say what task it was fine-tuned for"):
        Reader.load(tmp_path / "checkpoint-best")
    flags = ("--question", "谁？", "--context", "甲")
    assert _predict(tmp_path, None, *flags) == 2
    assert "does not say what task it was fine-tuned for; give one (task)" in capsys.readouterr().err
    assert _predict(tmp_path, "cmrc2018", *flags) == 2  # 512 tokens, which the model has no positions for
    assert "--max_seq_length 512 > max_position_embeddings 96" in capsys.readouterr().err
    assert _predict(tmp_path, "cmrc2018", *flags, "--max_seq_length", "64") == 0
    assert capsys.readouterr().err == ""
