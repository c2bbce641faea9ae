"""The other commands, and what a user's mistakes lead to: one clear line and exit status 2."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from experiment.cli import main
from tests.experiment.conftest import train_flags, write_corpus


def _fails(capsys, arguments, *expected):
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error, error
    for text in expected:
        assert text in error, error


def test_unknown_task_and_command_name_the_closest(capsys, corpus, flags, tmp_path):
    arguments = flags(corpus, tmp_path / "run")
    arguments[2] = "cmrc"
    _fails(capsys, arguments, "unknown task 'cmrc'; did you mean 'cmrc2018'?")
    _fails(capsys, ["trian"], "unknown command 'trian'; did you mean 'train'?")


def test_missing_file(capsys, corpus, flags, tmp_path):
    corpus.data.unlink()
    _fails(capsys, flags(corpus, tmp_path / "run"), str(corpus.data), "no such file")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"data": 3}', '{"data": []}', '["a"]', '{"data": [{"paragraphs": []}]}', ""]
)
def test_files_that_are_no_squad_layout_or_hold_nothing(capsys, corpus, flags, tmp_path, content):
    corpus.data.write_text(content)
    _fails(capsys, flags(corpus, tmp_path / "run"), str(corpus.data))
    assert not (tmp_path / "run").exists()


def test_vocabulary_of_another_size(capsys, corpus, flags, tmp_path):
    with (corpus.model / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("鱼\n")
    _fails(capsys, flags(corpus, tmp_path / "run"), "entries, the model's embedding", "--tokenizer_name")


@pytest.mark.parametrize("config_name", ["model", "model/config.json"])
def test_tokenizer_that_is_asked_for_is_the_one_that_is_used(capsys, corpus, flags, tmp_path, config_name):
    arguments = flags(corpus, tmp_path / "run", "--tokenizer_name", str(tmp_path / "other.txt"))
    arguments[arguments.index("--config_name") + 1] = str(tmp_path / config_name)
    _fails(capsys, arguments, "other.txt")
    (tmp_path / "other.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    _fails(capsys, arguments, "other.txt: the vocabulary has 4 entries")


def test_length_over_the_models_limit(capsys, corpus, flags, tmp_path):
    arguments = [*flags(corpus, tmp_path / "run"), "--max_seq_length", "65"]
    _fails(capsys, arguments, "--max_seq_length 65 > max_position_embeddings 64")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--bf16", "--fp16"], "--bf16 and --fp16 both given"),
        (["--doc_stride", "8", "--doc_overlap", "8"], "--doc_stride and --doc_overlap both given"),
        (["--model_name_or_path", "x/y"], "either --model_name_or_path"),
        (["--learning_rate", "-1"], "--learning_rate"),
        (["--num_train_epochs", "0"], "--num_train_epochs"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size"),
        (["--eval_epochs", "0"], "--eval_epochs"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--seeds", "-1"], "--seeds"),
        (["--device", "tpu"], "--device"),
        (["--warmup_ratio", "1.5"], "--warmup_ratio"),
        (["--learning_rate", "inf"], "--learning_rate"),
        (["--num_train_epochs", "nan"], "--num_train_epochs"),
        (["--adam_beta1", "1"], "--adam_beta1"),
        (["--max_seq_length", "8"], "leaves no room"),
        (["--max_answer_length", "0"], "--max_answer_length"),
        (["--jit_compile", "True"], "--jit_compile is for --framework tensorflow"),
        (["--torch_compile", "--framework", "tensorflow"], "--torch_compile is for --framework pytorch"),
        (["--optim", "adamw8bit", "--framework", "tensorflow"], "--optim adamw8bit is for --framework pytorch"),
        (["--fsdp"], "--fsdp divides the model among several processes; start them with torchrun"),
    ],
)
def test_options_that_make_no_sense(capsys, corpus, flags, tmp_path, more, expected):
    _fails(capsys, [*flags(corpus, tmp_path / "run"), *more], expected)
    assert not (tmp_path / "run").exists()


def test_config_file_mistakes(capsys, tmp_path):
    (tmp_path / "good.yaml").write_text("task: cmrc2018")
    _fails(capsys, ["train", "--config", tmp_path / "good.yaml", f"--config={tmp_path}/good.yaml"], "one YAML file")
    _fails(capsys, ["train", "--config", tmp_path / "no.yaml"], "no such file")
    (tmp_path / "bad.yaml").write_text("a: [")
    _fails(capsys, ["train", "--config", tmp_path / "bad.yaml"], "the file is not YAML (line 1: ")
    (tmp_path / "list.yaml").write_text("- a")
    _fails(
        capsys,
        ["train", "--config", tmp_path / "list.yaml"],
        "options were expected, one `name: value` per line; found a list",
    )


def test_what_the_parser_refuses_is_one_line(capsys, corpus, flags, tmp_path):
    mistyped = [*flags(corpus, tmp_path / "run"), "--learning_rat", "1"]
    _fails(capsys, mistyped, "unknown option --learning_rat; did you mean '--learning_rate'?")
    _fails(capsys, [*flags(corpus, tmp_path / "run"), "--max_seq_length", "abc"], "--max_seq_length", "'abc'")
    _fails(capsys, ["evaluate", "--task", "cmrc2018"], "--data_file", "--predictions")


def test_missing_predictions_can_be_an_error(capsys, corpus, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"T_0_Q_0": "北京"}))
    command = ["evaluate", "--task", "cmrc2018", "--data_file", corpus.data, "--predictions", tmp_path / "p.json"]
    _fails(capsys, [*command, "--missing_predictions", "error"], "5 questions have no prediction", "'T_0_Q_1'")


def test_evaluate_says_what_the_gold_file_lost(capsys, corpus, tmp_path):
    data = json.loads(corpus.data.read_text())
    questions = data["data"][0]["paragraphs"][0]["qas"]
    questions.append(questions[0])
    corpus.data.write_text(json.dumps(data))
    (tmp_path / "p.json").write_text("{}")
    command = ["evaluate", "--task", "cmrc2018", "--data_file", corpus.data, "--predictions", tmp_path / "p.json"]
    assert main([str(a) for a in command]) == 0
    assert "1 dropped" in capsys.readouterr().out


def test_evaluate_mistakes(capsys, corpus, tmp_path):
    predictions = tmp_path / "p.json"
    command = ["evaluate", "--task", "cmrc2018", "--data_file", corpus.data, "--predictions", predictions]
    _fails(capsys, command, "no such file")
    predictions.write_text("[1]")
    _fails(capsys, command, "entry 1 of the list is the number 1", "give a JSON object")
    predictions.write_text('{"T_0_Q_0": ["x"]}')
    _fails(capsys, command, "'T_0_Q_0'")


def test_evaluate_counts_missing_and_unknown_ids(capsys, corpus, tmp_path):
    predictions, output = tmp_path / "p.json", tmp_path / "s.json"
    predictions.write_text(json.dumps({"T_0_Q_0": "北京", "T_2_Q_0": "三本书", "nobody": "x"}))
    command = ["evaluate", "--task", "cmrc2018", "--data_file", corpus.data, "--predictions", predictions]
    assert main([str(a) for a in [*command, "--output", output]]) == 0
    score = json.loads(output.read_text())
    assert set(score) == {"task", "version", "values", "per_example", "n", "n_missing"}
    assert (score["n"], score["n_missing"]) == (6, 4)
    assert score["values"]["em"] == pytest.approx(100 / 6)
    # 三本 against 三本书: common substring 2, precision 2/3, recall 1.
    assert score["per_example"]["T_2_Q_0"] == {"em": 0.0, "f1": pytest.approx(0.8)}
    assert score["values"]["f1"] == pytest.approx(100 * 1.8 / 6)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed == [
        *([name, f"{value:.3f}"] for name, value in score["values"].items()),
        ["questions", "6"],
        ["missing", "4"],
        ["1", "predictions", "belong", "to", "no", "question", "and", "are", "not", "scored"],
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once for all tests."""
    root = tmp_path_factory.mktemp("trained")
    assert main([*train_flags(write_corpus(root), root / "run"), "--seeds", "1"]) == 0
    return root / "run"


@pytest.fixture
def checkpoint(trained, tmp_path):
    """Return a copy of the trained checkpoint, with what its run left beside it, to do with what one likes."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run" / "seed_1" / "checkpoint-best"


def test_predict_repeats_the_dev_predictions_of_the_run(checkpoint, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    # --max_seq_length and the rest come from the checkpoint's settings file.
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", checkpoint]
    assert main([str(a) for a in [*command, "--test_file", corpus.data, "--output_dir", out]]) == 0
    assert json.loads((out / "predictions.json").read_text()) == json.loads(
        (checkpoint.parent / "predictions_dev.json").read_text()
    )
    nbest = json.loads((out / "nbest_predictions.json").read_text())["T_0_Q_0"]
    assert sum(entry["probability"] for entry in nbest) == pytest.approx(1.0)
    capsys.readouterr()
    context = "小猫住在北京。小狗住在上海。"
    assert main([str(a) for a in [*command, "--question", "小猫住在哪里？", "--context", context]]) == 0
    printed = re.fullmatch(r"(.+)  \[(\d+):(\d+)\] p=(\S+)\n", capsys.readouterr().out)
    answer, start, end, probability = printed.groups()
    assert answer == context[int(start) : int(end)] == nbest[0]["text"]
    assert float(probability) == pytest.approx(nbest[0]["probability"], abs=5e-4)


def test_predict_refuses_a_checkpoint_without_a_head(checkpoint, corpus, capsys, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "qa_outputs" not in n}, checkpoint / "model.safetensors")
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", checkpoint, "--max_seq_length", "64"]
    _fails(capsys, [*command, "--question", "a", "--context", "b"], "missing", "head.span.weight")


def test_predict_needs_a_question_or_a_file(capsys, checkpoint):
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", checkpoint]
    _fails(capsys, command, "--test_file")
    _fails(capsys, [*command, "--question", "a"], "--context")


def test_fine_tuning_starts_from_a_checkpoint(checkpoint, corpus, flags, tmp_path):
    arguments = flags(corpus, tmp_path / "second", "--model_name_or_path", str(checkpoint), "--seeds", "1")
    del arguments[arguments.index("--config_name") :][:2]
    at = arguments.index("--config_name")
    del arguments[at : at + 2]
    assert main([*arguments, "--learning_rate", "0"]) == 0
    # With a rate of 0 the model is the one it started from, head included.
    ours, start = (d / "model.safetensors" for d in (tmp_path / "second/seed_1/checkpoint-best", checkpoint))
    assert ours.read_bytes() == start.read_bytes()
    record = json.loads((tmp_path / "second/seed_1/record.json").read_text())
    assert len(record["hashes"]["checkpoint"]) == 64


def test_inspect_writes_every_layer(checkpoint, tmp_path, capsys):
    inputs, output = tmp_path / "in.npz", tmp_path / "out.npz"
    ids = np.array([[2, 6, 7, 3], [2, 8, 3, 0]])
    np.savez(inputs, input_ids=ids, attention_mask=(ids > 0).astype(int), token_type_ids=np.zeros_like(ids))
    assert (
        main(["inspect", "--model_name_or_path", str(checkpoint), "--inputs", str(inputs), "--output", str(output)])
        == 0
    )
    arrays = np.load(output)
    # A span model has no pooler, and what a fresh one would say is not written.
    assert set(arrays.files) == {"embedding_output", "layer_0", "layer_1", "sequence_output"}
    assert arrays["sequence_output"].shape == (2, 4, 16) and arrays["sequence_output"].dtype == np.float32
    assert np.array_equal(arrays["sequence_output"], arrays["layer_1"])
    # A LayerNorm with weight 1 and bias 0, as good as untrained, comes last.
    np.testing.assert_allclose(arrays["layer_1"].mean(-1), 0, atol=0.05)
    text = capsys.readouterr().out
    assert "ignored  qa_outputs.weight" in text and "sha256" in text


@pytest.mark.golden
def test_inspect_equals_the_golden_outputs(golden_dir, tmp_path):
    directory = golden_dir / "checkpoints" / "hf_bert"
    expected = np.load(directory / "expected.npz")
    inputs, output = tmp_path / "in.npz", tmp_path / "out.npz"
    named = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "token_type_ids"}
    np.savez(inputs, **{ours: expected[theirs] for ours, theirs in named.items()})
    assert (
        main(["inspect", "--model_name_or_path", str(directory), "--inputs", str(inputs), "--output", str(output)])
        == 0
    )
    found = np.load(output)
    # The golden README's tolerance: three times below the smallest error of any wrong setting.
    for name in ("sequence_output", "pooled_output"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    np.testing.assert_allclose(found["layer_1"], expected["hidden_state_1"], atol=2e-5)


def test_inspect_mistakes(checkpoint, tmp_path, capsys):
    command = ["inspect", "--model_name_or_path", checkpoint, "--output", tmp_path / "o.npz", "--inputs"]
    _fails(capsys, [*command, tmp_path / "no.npz"], "no such file")
    ids = np.array([[2, 999, 3]])
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    np.savez(tmp_path / "big.npz", **arrays)
    _fails(capsys, [*command, tmp_path / "big.npz"], "input_ids 2..999 is not within")
    np.savez(tmp_path / "part.npz", input_ids=ids)
    _fails(capsys, [*command, tmp_path / "part.npz"], "lacks attention_mask, token_type_ids")
    for shape in ((0, 3), (2, 0)):
        np.savez(tmp_path / "empty.npz", **dict.fromkeys(arrays, np.zeros(shape, int)))
        _fails(capsys, [*command, tmp_path / "empty.npz"], "both at least 1, were expected")


def test_inspect_says_what_it_can_not_compare(checkpoint, tmp_path, capsys):
    ids = np.array([[2, 6, 3]])
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    others = {"sequence_output": np.full((1, 3, 16), "text"), "layer_1": np.zeros((1, 3, 8))}
    np.savez(tmp_path / "in.npz", **arrays, **others)
    assert main(["inspect", "--model_name_or_path", str(checkpoint), "--inputs", str(tmp_path / "in.npz")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "sequence_output not compared: <U4 [1, 3, 16] beside the inputs, [1, 3, 16] computed" in text
    assert "layer_1 not compared: float64 [1, 3, 8] beside the inputs, [1, 3, 16] computed" in text


def test_damaged_checkpoint_is_refused(checkpoint, capsys):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    _fails(capsys, ["inspect", "--model_name_or_path", checkpoint], str(weights), "not a whole safetensors file")


def test_predict_takes_a_file_without_answers(checkpoint, corpus, tmp_path):
    data = json.loads(corpus.data.read_text())
    for article in data["data"]:
        for question in article["paragraphs"][0]["qas"]:
            del question["answers"]
    (tmp_path / "open.json").write_text(json.dumps(data))
    command = [
        "predict",
        "--task",
        "cmrc2018",
        "--model_name_or_path",
        checkpoint,
        "--test_file",
        tmp_path / "open.json",
    ]
    assert main([str(a) for a in [*command, "--output_dir", tmp_path / "out"]]) == 0
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 6


def _cells(table):
    """Return the cells of a table whose columns are at least two blanks apart, by line."""
    return [re.split(r" {2,}", line.strip()) for line in table.rstrip("\n").splitlines()]


def test_stats_prints_the_table_and_a_picture(corpus, tmp_path, capsys):
    command = ["stats", "--task", "cmrc2018", "--data_file", corpus.data, "--tokenizer_name", corpus.model]
    picture = tmp_path / "h.png"
    assert main([str(a) for a in [*command, "--max_seq_length", "16", "64", "--histogram", picture]]) == 0
    _, lengths, windows, end = capsys.readouterr().out.split("\n\n") + [""]
    assert end == "" and _cells(lengths) == [
        ["length of", "number", "mean", "p50", "p90", "max"],
        ["context, characters", "3", "14.0", "14", "14", "14"],
        ["context, pieces", "3", "14.0", "14", "14", "14"],
        ["question, characters", "6", "7.0", "7", "7", "7"],
        ["answer, characters", "6", "2.0", "2", "2", "2"],
    ]
    header, at_16, at_64, picture_line = _cells(windows)
    # A window of 16 has room for 6 pieces of context: 3 windows per question, which hold 16, 16 and 12 tokens.
    # 九支 lies in the second window, 上海 and 香蕉 across the border of the second and the third.
    assert dict(zip(header, at_16, strict=True)) == {
        "length": "16",
        "windows": "18",
        "per question": "3.000",
        "contexts cut": "100.0%",
        "answers beyond window 1": "3 (50.00%)",
        "answers in no window": "2 (33.33%)",
        "answers across pieces": "0 (0.00%)",
        "padding": "8.3%",
        "in batches": "8.3%",
    }
    # 24 tokens in windows of 64, which batches pad to 32.
    assert at_64 == ["64", "6", "1.000", "0.0%", "0 (0.00%)", "0 (0.00%)", "0 (0.00%)", "62.5%", "25.0%"]
    assert picture_line == [f"histogram written to {picture}"]
    assert picture.read_bytes().startswith(b"\x89PNG")
