"""`--config FILE.yaml`: every value means what it would mean on the command line, and every trap of YAML is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiment.options.arguments import split, understand
from experiment.options.flags import DownloadOptions, LeaderboardOptions, TrainOptions
from preprocess.base.errors import UsageError


@pytest.fixture
def read(tmp_path):
    """Understand a YAML file, and flags after it, as options of `train`."""

    def call(content, *flags, options=TrainOptions):
        path = tmp_path / "run.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        needed = ["--task", "cmrc2018", "--output_dir", "run"] if options is TrainOptions else []
        return understand(split([*needed, "--config", str(path), *flags], options), options)

    return call


@pytest.fixture
def refused(read, tmp_path):
    """Return what is said against a YAML file, after its name."""

    def call(content, *flags):
        with pytest.raises(UsageError) as caught:
            read(content, *flags)
        message = str(caught.value)
        assert message.startswith(f"--config {tmp_path}/run.yaml") and "\n" not in message
        return message.removeprefix(f"--config {tmp_path}/run.yaml")

    return call


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("seeds: [010]", "seeds", (10,)),  # eight, for YAML 1.1
        ("seeds: [1, 2]", "seeds", (1, 2)),
        ("seeds:\n- 1\n- 2", "seeds", (1, 2)),
        ("seeds: 7", "seeds", (7,)),
        ("max_seq_length: 1_00", "max_seq_length", 100),
        ("learning_rate: 1e-5", "learning_rate", 1e-5),  # a text, for YAML 1.1
        ("learning_rate: '1e-5'", "learning_rate", 1e-5),
        ("num_train_epochs: 2", "num_train_epochs", 2.0),
        ("device: on", "device", "on"),  # True, for YAML 1.1
        ("device: 12:30", "device", "12:30"),  # 750, for YAML 1.1
        ("device: 2024-01-02", "device", "2024-01-02"),  # a date, for YAML 1.1
        ("device: 'null'", "device", "null"),
        ("bf16: true", "bf16", True),
        ('bf16: "true"', "bf16", True),
        ("bf16: Yes", "bf16", True),
        ("group-by-length: false", "group_by_length", False),
        ("group_by_length: off", "group_by_length", False),
        ("jit_compile: no", "jit_compile", False),
        ("learning_rate: null", "learning_rate", None),
        ("learning_rate: ~", "learning_rate", None),
        ("learning_rate:", "learning_rate", None),
        ("feature_cache_dir: null", "feature_cache_dir", None),
        ("feature_cache_dir: None", "feature_cache_dir", None),
        ("feature_cache_dir:", "feature_cache_dir", None),
        ("save_steps: &n 5\nlogging_steps: *n", "logging_steps", 5),
        ("{save_steps: 5}", "save_steps", 5),
        ("---\nsave_steps: 5\n...\n", "save_steps", 5),
        ("# a comment\nsave_steps: 5  # and another", "save_steps", 5),
    ],
)
def test_a_value_is_the_text_that_stands_there(read, line, field, value):
    assert getattr(read(line), field) == value
    assert getattr(read(b"\xef\xbb\xbf" + line.encode()), field) == value  # a BOM is no part of the first name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2", ", line 1: a: unknown option; --config"),
        ("learning_rat: 1", ", line 1: learning_rat: unknown option; did you mean 'learning_rate'?"),
        ("\nbf16: 1", ", line 2: bf16 '1': true or false was expected"),
        ("save_steps: [3, 4]", ", line 1: save_steps '3 4': one value was expected, found a list of 2"),
        ("learning_rate: [3e-5]", ", line 1: learning_rate '3e-5': one value was expected, found a list of 1"),
        ("learning_rate: .nan", ", line 1: learning_rate '.nan': a number was expected"),
        ("learning_rate: nan", ", line 1: learning_rate nan: must be at least 0"),
        ("max_train_samples: 1e3", ", line 1: max_train_samples '1e3': a whole number was expected"),
        ("seeds: 1 2 3", ", line 1: seeds '1 2 3': a whole number was expected"),
        ("seeds: [1, [2]]", ", line 1: seeds: a value or a list of values was expected, found a list"),
        ("seeds: {a: 1}", ", line 1: seeds: a value or a list of values was expected, found a mapping"),
        ("optim:\n  adamw:\n    lr: 1", ", line 1: optim: a value or a list of values was expected, found a mapping"),
        ("eval_epochs:", ", line 1: eval_epochs has no value; give one, or leave the line out"),
        ("bf16: null", ", line 1: bf16 has no value"),
        ("save_steps: 1\nbf16: true\nsave_steps: 2", ", line 3: save_steps: stands in line 1 already"),
        ("save_steps: 1\nsave-steps: 1", ", line 2: save-steps: stands in line 1 already"),
        ("<<: {save_steps: 1}", ", line 1: <<: merging is not supported here; write the options out"),
        ("[a]: 1", ", line 1: a name was expected before the colon"),
        ("1: 2", ", line 1: 1: unknown option"),
        ("output_dir: !!binary aGk=", ", line 1: output_dir: the tag !!binary is not supported"),
        ("output_dir: !path x", ", line 1: output_dir: the tag !path is not supported"),
        ("output_dir: ''", ", line 1: output_dir '': a path was expected"),
        ("config: other.yaml", ", line 1: config: unknown option"),
        ("no_bf16: true", ", line 1: no_bf16: unknown option"),
        ("\tbf16: true", ": the file is not YAML (line 1: a tab; indent by spaces)"),
        ("a: 1\n---\nb: 2", ": the file is not YAML (line 2: a second document; one holds all options)"),
        ("a: *b", ": the file is not YAML (line 1: found undefined alias 'b')"),
        ("a: [", ": the file is not YAML (line 1: "),
        ("a: b: c", ": the file is not YAML (line 1: mapping values are not allowed here)"),
        ("a: \x07", ": the file is not YAML (unacceptable character #x0007"),
        ("[" * 3000, ": the file is not YAML (nested too deeply)"),
        ("", ": options were expected, one `name: value` per line; found nothing"),
        ("- a", ": options were expected, one `name: value` per line; found a list"),
        ("some text", ": options were expected, one `name: value` per line; found a text"),
        ("bf16: true".encode("utf-16"), ": the file is not UTF-8 text"),
        ("output_dir: 中文".encode("gbk"), ": the file is not UTF-8 text (invalid continuation byte at byte 12)"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_the_line_and_the_option(refused, content, message):
    assert refused(content).startswith(message)


def test_all_mistakes_are_named_at_once(refused):
    said = refused("bf16: 1\nlearning_rate: x\nsave_step: 2")
    assert "line 1: bf16" in said and "line 2: learning_rate" in said and "did you mean 'save_steps'" in said


def test_flags_win_over_the_file_wherever_they_stand(read):
    assert read("learning_rate: 1", "--learning_rate", "2").learning_rate == 2
    path = read("learning_rate: 1", "--no_bf16")
    assert (path.learning_rate, path.bf16) == (1, False)


def test_written_options_are_read_as_they_were(read):
    import yaml

    from experiment.options.recipe import to_plain

    before = replace(read(""" save_steps: 5"""), seeds=(1, 2), feature_cache_dir=None, device="no", optim="bert_adam")
    text = yaml.safe_dump(to_plain(before), sort_keys=False, allow_unicode=True)
    assert read(text) == before


def test_positional_values_have_names_in_a_file(read):
    assert read("runs: [a, b]", options=LeaderboardOptions).runs == (Path("a"), Path("b"))
    assert read("task: x\nsplits: train", options=DownloadOptions).splits == ("train",)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"--config {path}: {reason}"):
            understand(split(["--config", str(path)], TrainOptions), TrainOptions)


def test_aliases_cost_nothing(refused):
    # Ten lists of ten each, nine deep: a thousand million values, if they were written out.
    lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))]
    assert "found a list" in refused("\n".join(lines))
