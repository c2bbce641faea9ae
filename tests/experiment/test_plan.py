"""`plan`: what it prints and writes for known GPUs and this machine, with and without data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.estimate.hardware import DEVICES, forward_flops, host_memory, training_flops
from experiment.estimate.memory import GPU_OVERHEAD
from experiment.estimate.plan import utilisation
from experiment.options.flags import PlanOptions
from pretrained_configs.config import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
LARGE = ["--task", "cmrc2018", "--model_name_or_path", "chinese-roberta-wwm-ext-large"]
SIZES = {"vocab_size": 21128, "hidden_size": 384, "num_hidden_layers": 12}
SIZES |= {"num_attention_heads": 6, "intermediate_size": 1536}


@pytest.fixture
def planned(tmp_path, capsys):
    """Plan without any data set at hand; returns exit status, what was printed, and the JSON file."""

    def call(*arguments):
        path = tmp_path / "plan.json"
        status = main(["plan", *map(str, arguments), "--data_dir", str(tmp_path / "none"), "--json", str(path)])
        captured = capsys.readouterr()
        return status, captured.out + captured.err, json.loads(path.read_text()) if path.exists() else None

    return call


@pytest.fixture
def corpus_flags(corpus):
    return [
        "--task", "cmrc2018", "--config_name", corpus.model, "--train_file", corpus.data, "--max_seq_length", 64,
        "--per_device_train_batch_size", 2, "--num_train_epochs", 3, "--feature_cache_dir", corpus.data.parent / "c",
    ]  # fmt: skip


@pytest.fixture
def small_model(tmp_path):
    """Twelve layers of width 384."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    return ["--task", "cmrc2018", "--config_name", tmp_path]


def _gpus(facts):
    return {row["device"]: row for row in facts["devices"] if row["device"] != "cpu"}


def test_published_model_needs_neither_weights_nor_data(planned):
    status, printed, facts = planned(*LARGE, "--bf16")
    assert status == 0 and set(_gpus(facts)) == {device.name for device in DEVICES}
    assert "no time: give --train_file, or fetch the published file: run_mrc.py download --task cmrc2018" in printed
    assert facts["time"] is None and facts["memory"]["weights"] == 4 * 324_474_882
    for row in _gpus(facts).values():
        assert row["needed_bytes"] == pytest.approx(
            sum(facts["memory"].values()) * (1 + GPU_OVERHEAD.gaps) + GPU_OVERHEAD.fixed, abs=1
        )


def test_a_process_on_the_cpu_takes_more_than_its_tensors(planned, small_model):
    """A user's 12 x 384 model, 32 windows of 256: 4.07 GB were measured of the process, and 2.9 of its tensors."""
    status, printed, facts = planned(*small_model, "--per_device_train_batch_size", 32, "--max_seq_length", 256)
    row = facts["devices"][-1]
    assert status == 0 and sum(facts["memory"].values()) == pytest.approx(2.93e9, rel=0.01)
    assert row["device"] == "cpu" and row["needed_bytes"] == pytest.approx(4.07e9, rel=0.10)
    assert row["memory_bytes"] == host_memory() and row["epoch_s"] is None
    table = [line.split() for line in printed.splitlines() if line.startswith("cpu ")]
    assert [(cells[3], cells[-2:]) for cells in table] == [("4.3", ["-", "-"])]
    assert "for Python, libraries and data" in printed


def test_processes_on_one_cpu_share_its_memory(planned, small_model):
    _, _, one = planned(*small_model, "--per_device_train_batch_size", 4)
    _, _, two = planned(*small_model, "--per_device_train_batch_size", 4, "--n_devices", 2)
    # Each has its own interpreter and model, and all gradients in the buckets that are summed.
    needed = [facts["devices"][-1]["needed_bytes"] for facts in (one, two)]
    assert needed[1] > 2 * needed[0]
    assert two["devices"][-1]["largest_batch"] < one["devices"][-1]["largest_batch"] / 2


def test_one_gpu_is_shown_without_the_cpu(planned):
    _, printed, facts = planned(*LARGE, "--gpu", "t4")
    assert [row["device"] for row in facts["devices"]] == ["t4"] and "CPU" not in printed


def test_plan_loads_no_framework(tmp_path):
    code = (
        "import sys\nfrom experiment.cli import main\n"
        f"assert main(['plan', *{LARGE!r}, '--data_dir', {str(tmp_path)!r}]) == 0\n"
        "print({'torch', 'tensorflow', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_suggested_batches_keep_the_step_and_fit(planned):
    _, printed, facts = planned(*LARGE, "--bf16", "--per_device_train_batch_size", 32, "--max_seq_length", 512)
    for row in _gpus(facts).values():
        batch, n_passes = row["per_device_train_batch_size"], row["gradient_accumulation_steps"]
        assert batch * n_passes == 32 and batch <= row["largest_batch"], row
        # Half as much would have been enough only if twice as much were too much.
        assert batch == 32 or 2 * batch > row["largest_batch"], row
    t4 = _gpus(facts)["t4"]
    assert (t4["per_device_train_batch_size"], t4["gradient_accumulation_steps"]) == (16, 2)
    assert "16 x 2" in printed


def test_batch_that_does_not_fit_is_told_how_to(planned):
    _, printed, facts = planned(*LARGE, "--fp16", "--per_device_train_batch_size", 32, "--gpu", "t4")
    n = _gpus(facts)["t4"]["fits_with_gradient_checkpointing"]
    assert 0 < n <= 24 and f"with --gradient_checkpointing {n}" in printed
    arguments = (*LARGE, "--fp16", "--per_device_train_batch_size", 32, "--gpu", "T4", "--gradient_checkpointing")
    _, _, one_less = planned(*arguments, n - 1)
    assert _gpus(one_less)["t4"]["needed_bytes"] > 16e9
    _, printed, enough = planned(*arguments, n)
    assert _gpus(enough)["t4"]["needed_bytes"] <= 16e9 and f"{n} layers computed again" in printed
    _, printed, _ = planned(*LARGE, "--per_device_train_batch_size", 512, "--gpu", "t4")
    assert printed.splitlines()[1].split()[5] == "no"


def test_time_is_counted_from_real_windows(planned, corpus, corpus_flags):
    status, printed, facts = planned(*corpus_flags, "--validation_file", corpus.data, "--seeds", 1, 2, "--fp16")
    config = ModelConfig(**json.loads((corpus.model / "config.json").read_text()))
    # Six questions of fewer than 32 tokens: one window each, padded to 32, two per step.
    flops = 6 * training_flops(config, 32)
    assert status == 0 and "2 seeds of 3 epochs and 6 evaluations each" in printed
    assert (facts["time"]["n_windows"], facts["time"]["n_steps"], facts["time"]["mean_length"]) == (6, 3, 32)
    assert facts["time"]["epoch_flops"] == flops
    v100 = _gpus(facts)["v100-16gb"]
    speed = 125e12 * 0.4 * (16 / 768) * (64 / 4096)  # a tiny model fills no GPU
    assert v100["epoch_s"] == pytest.approx(flops / speed)
    assert v100["all_seeds_s"] == pytest.approx(2 * (3 * flops + 6 * 6 * forward_flops(config, 32)) / speed)


def test_recomputed_layers_cost_their_forward_pass(planned, corpus_flags):
    _, _, plain = planned(*corpus_flags)
    _, printed, recomputed = planned(*corpus_flags, "--gradient_checkpointing", 1)
    assert recomputed["time"]["epoch_flops"] == pytest.approx(plain["time"]["epoch_flops"] * 4 / 3)
    assert "no evaluations (no --validation_file)" in printed


def test_gpu_without_the_precision_gets_no_time(planned, corpus_flags):
    _, printed, facts = planned(*corpus_flags, "--bf16", "--gpu", "t4")
    assert "no bf16" in printed and facts["devices"][0]["epoch_s"] is None


def test_devices_share_the_recipe_but_not_a_batch_that_is_given(planned):
    _, printed, facts = planned(*LARGE, "--n_devices", 4, "--gpu", "h100")
    assert (
        facts["devices"][0]["per_device_train_batch_size"] == 3
        and "take 12 windows per step with 4 devices" in printed
    )
    _, printed, _ = planned(*LARGE, "--n_devices", 4, "--per_device_train_batch_size", 8)
    assert "take 32 windows per step with 4 devices" in printed
    # The buckets that are summed hold all gradients from the start.
    assert facts["memory"]["gradients"] == facts["memory"]["weights"]


def test_unknown_vocabulary_leaves_the_memory(planned, corpus):
    flags = ["--task", "cmrc2018", "--model_name_or_path", "albert-zh-tiny", "--train_file", corpus.data]
    status, printed, facts = planned(*flags)  # published, but not on the hub
    assert status == 0 and "no time: albert-zh-tiny is not on the hub" in printed and facts["time"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*LARGE, "--gpu", "a100-40g"], "--gpu a100-40g: unknown; did you mean 'a100-40gb'?"),
        ([*LARGE, "--max_seq_length", "1024"], "--max_seq_length 1024 > max_position_embeddings 512 (chinese"),
        ([*LARGE, "--gradient_checkpointing", "25"], "--gradient_checkpointing 25 > 24 layers"),
        ([*LARGE, "--framework", "tensorflow"], "the memory of its step is not known"),
        ([*LARGE, "--n_devices", "5"], "--n_devices 5 can't share 12 windows equally"),
        ([*LARGE, "--tokenizer_name", "nowhere", "--train_file", "x.json"], "nowhere"),
        (["--task", "cmrc2018"], "give either --model_name_or_path (fine-tune) or --config_name"),
        (["--task", "cmrc2018", "--model_name_or_path", "chinese-roberta-wwm-exd"], "did you mean"),
    ],
)
def test_mistakes_are_one_line_and_status_2(planned, arguments, message):
    status, printed, _ = planned(*arguments)
    assert status == 2 and message in printed and printed.count("\n") == 1, printed


def test_utilisation_falls_with_width_and_batch():
    assert utilisation("bf16", 1024, 16 * 512) == utilisation("tf32", 768, 4096) == 0.4
    assert utilisation("bf16", 384, 4096) == utilisation("bf16", 768, 2048) == 0.2
    assert utilisation("fp32", 768, 4096) == 0.6


def test_options_of_train_about_the_step_are_options_of_plan():
    from dataclasses import fields

    from experiment.options.flags import TrainOptions

    shared = {f.name: f.default for f in fields(TrainOptions)}
    for field in fields(PlanOptions):
        if field.name not in ("gpu", "n_devices", "json"):
            assert shared[field.name] == field.default, field.name
