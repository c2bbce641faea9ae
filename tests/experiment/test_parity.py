"""The comparison of both frameworks: it passes where they agree, and names the first stage where they don't."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import types
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import pytorch_modeling
import tf_modeling
from experiment.cli import main
from experiment.commands import parity as command
from experiment.inputs.data import Data
from experiment.options.optimisation import OptimizerOptions
from experiment.parity.answers import Answers
from experiment.parity.compare import TOLERANCES, Comparison, Part, idle_parameters, row
from experiment.parity.observe import Observation, ParityJob, observe, observing
from experiment.parity.windows import random_batch
from preprocess.base.errors import UsageError
from preprocess.batch import collate
from preprocess.template import TEMPLATES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.problems.span import encode_spans
from tests.support.values import SPAN, head_of, span_outputs

ROOT = Path(__file__).resolve().parents[2]
SPAN = SPAN
TRAINER = {field.name: field.default for field in fields(OptimizerOptions)}
TRAINER |= {
    "learning_rate": 3e-5,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
}
CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.2,  # with 0.02 so small a model is all but linear, and one GELU like the other
)
ELECTRA = replace(CONFIG, model_type="electra", embedding_size=16, embedding_projection="output")
ALBERT = replace(CONFIG, model_type="albert", embedding_size=16, embedding_projection="output")
PRELN = replace(ALBERT, embedding_projection="word", layer_norm_type="preln")


def _job(config=CONFIG, head=SPAN, steps=2, **changes):
    random = np.random.Generator(np.random.Philox(7))
    batches = [random_batch(config, head, (4, 24), random) for _ in range(steps)]
    return replace(ParityJob(config, head, None, batches, [], TRAINER), **changes)


def _compare(ours, theirs):
    """Return the rows by stage; each side is (backend, job)."""
    job = ours[1]
    comparison = Comparison(TOLERANCES[job.trainer["precision"]], job.config, job.head, job.trainer["learning_rate"])
    return {one.stage: one for one in comparison.rows(observe(*ours), observe(*theirs))}


def _first(rows):
    return next((one.stage for one in rows.values() if not one.ok), None)


def _with(**replaced):
    """Return the PyTorch backend with some functions replaced."""
    names = {name: getattr(pytorch_modeling, name) for name in pytorch_modeling.__all__}
    return types.SimpleNamespace(**{**names, **replaced})


@pytest.mark.parametrize(
    ("config", "kinds"),
    [(CONFIG, ("unknown", "yes", "no")), (PRELN, ()), (ELECTRA, ())],
    ids=["bert", "albert", "electra"],
)
@pytest.mark.parity
def test_the_frameworks_agree_at_every_stage(config, kinds):
    job = _job(config, head_of(kinds))
    rows = _compare((pytorch_modeling, job), (tf_modeling, job))
    assert _first(rows) is None, rows
    expected = ["weights", "embedding output", "layer 1", "layer 2", "layer 3", "start logits", "end logits"]
    expected += [*(["kind logits"] if kinds else []), "loss", "gradients", "step 1", "step 2"]
    expected += ["all steps (rms)", "idle parameters"]
    assert list(rows)[:2] + [s for s in list(rows)[2:] if s != "layer 0"] == expected
    assert ("layer 0" in rows) == (config is ELECTRA)


@pytest.mark.parametrize(
    "methods",
    [
        {
            "pgd_epsilon": 0.5, "pgd_steps": 2, "rdrop_alpha": 1.0, "label_smoothing": 0.1, "ema_decay": 0.5,
            "layerwise_lr_decay": 0.9, "reinit_layers": 1,
        },
        {"lora_rank": 2, "lora_targets": ("query", "value", "down"), "ema_decay": 0.5},
        {"freeze_layers": 1},
    ],
    ids=["pgd", "lora", "freeze"],
)  # fmt: skip
@pytest.mark.parity
def test_the_frameworks_agree_under_training_methods(methods):
    job = _job(trainer={**TRAINER, "adam_epsilon": None, **methods})
    rows = _compare((pytorch_modeling, job), (tf_modeling, job))
    assert _first(rows) is None, rows


def test_epsilon_stands_above_the_rounding_of_the_gradients_unless_it_is_given():
    """AdamW with 1e-8 makes whole steps of rounding errors, which most gradients of a well-trained model are."""
    taken = []

    def trainer(model, spec):
        taken.append(spec.adam_epsilon)
        return pytorch_modeling.Trainer(model, spec)

    backend = types.SimpleNamespace(**{**vars(pytorch_modeling), "Trainer": trainer})
    jobs = [_job(trainer={**TRAINER, "adam_epsilon": epsilon}) for epsilon in (1e-8, None)]
    _, second = (list(observe(backend, job)) for job in jobs)
    assert taken[0] == 1e-8
    assert taken[1] == pytest.approx(1e-3 * max(np.abs(o.value).max() for o in second if o.stage == "gradients"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parity
def test_the_frameworks_agree_in_half_precision_and_less_than_in_single(precision):
    job = _job(trainer={**TRAINER, "precision": precision})
    rows = _compare((pytorch_modeling, job), (tf_modeling, job))
    assert _first(rows) is None, rows
    assert rows["layer 3"].relative > 10 * TOLERANCES["fp32"].activations


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"layer_norm_eps": 1e-5}, "embedding output"),
        ({"hidden_act": "gelu_tanh"}, "layer 1"),
        ({"num_attention_heads": 2}, "layer 1"),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_setting_is_located(changes, stage):
    wrong = _job(replace(CONFIG, **changes))
    assert _first(_compare((pytorch_modeling, _job()), (pytorch_modeling, wrong))) == stage


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_bias_that_one_layer_leaves_out_is_located(layer):
    def build(*arguments, **options):
        model = pytorch_modeling.build_model(*arguments, **options)
        up = model.encoder.layers[layer].ffn.up
        up.register_forward_hook(lambda module, inputs, output: output - module.bias)
        return model

    rows = _compare((pytorch_modeling, _job()), (_with(build_model=build), _job()))
    assert _first(rows) == f"layer {layer + 1}"
    assert rows["gradients"].worst == f"layers.{layer}.ffn.up.bias"


def test_a_parameter_that_is_loaded_wrongly_is_named():
    def values(model):
        found = pytorch_modeling.parameter_values(model)
        found["layers.1.attention.output.weight"][0, 0] += 1e-7
        return found

    rows = _compare((pytorch_modeling, _job()), (_with(parameter_values=values), _job()))
    assert (_first(rows), rows["weights"].worst) == ("weights", "layers.1.attention.output.weight")
    assert rows["weights"].tolerance == 0


def test_a_wrong_gradient_is_located_behind_a_right_forward_pass():
    def gradients(*arguments, **options):
        outputs, found = pytorch_modeling.gradients(*arguments, **options)
        found["layers.0.attention.qkv.weight"] *= np.float32(1.001)
        return outputs, found

    rows = _compare((pytorch_modeling, _job()), (_with(gradients=gradients), _job()))
    assert (_first(rows), rows["gradients"].worst) == ("gradients", "layers.0.attention.qkv.weight")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("adam_beta1", 0.89),
        ("adam_beta2", 0.99),
        ("adam_epsilon", 1e-6),
        ("warmup_ratio", 0.5),
        ("weight_decay", 0.0),
    ],
)
def test_another_optimizer_is_located_at_the_steps(setting, value):
    jobs = [_job(steps=4, trainer={**TRAINER, setting: each}) for each in (TRAINER[setting], value)]
    first = _first(_compare(*((pytorch_modeling, job) for job in jobs)))
    assert first is not None and "step" in first


def test_a_fresh_head_is_the_same_in_both(tmp_path):
    pytorch_modeling.save_weights(pytorch_modeling.build_model(CONFIG, None, device="cpu"), tmp_path)
    job = _job(checkpoint=read_checkpoint(tmp_path))
    weights = [
        {o.name: o.value for o in observe(backend, job) if o.stage == "weights"}
        for backend in (pytorch_modeling, tf_modeling)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], value, err_msg=name)
    assert np.abs(weights[0]["head.span.bias"]).min() > 0  # a bias of zero could be left out unseen
    assert np.abs(weights[0]["layers.0.ffn.up.bias"]).max() == 0  # the checkpoint's own value


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (CONFIG, SPAN),
        (PRELN, SPAN),
        (ALBERT, SPAN),
        (replace(ALBERT, num_hidden_layers=1), SPAN),
        (CONFIG, get_task("c3").problem.head),
        (CONFIG, get_task("chnsenticorp").problem.head),
    ],
    ids=lambda value: value.model_type if isinstance(value, ModelConfig) else value.outputs[0].name,
)
def test_the_loss_depends_on_no_idle_parameter_and_on_all_others(config, head):
    job = _job(config, head)
    (batch, *_) = job.batches
    model = pytorch_modeling.build_model(config, head, device="cpu", seed=1)
    _, gradients = pytorch_modeling.gradients(model, batch, precision="fp32")
    idle = idle_parameters(config, head, gradients)
    top = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        if name.endswith("ffn_norm.bias") and head.outputs[0].loss == "choice":
            continue  # what the pooler's tanh bends is not zero
        # Rounding leaves some 1e-7 of a gradient that is zero; the smallest others have a thousandth of the largest.
        if name in idle:
            assert np.abs(gradient[idle[name]]).max() < 1e-6 * top, name
            gradient = np.delete(gradient, idle[name])
        assert not gradient.size or np.abs(gradient).max() > 1e-4 * top, name


def _judge(stage, ours, theirs, which=0):
    """Judge one parameter (and idle ones that are equal), in which of the rows that this gives."""
    sides = [
        [Observation(stage, "head.span.bias", np.zeros(2)), Observation(stage, "layers.0.ffn.up.weight", value)]
        for value in (np.float32(ours), np.float32(theirs))
    ]
    return list(Comparison(TOLERANCES["fp32"], CONFIG, SPAN, 1e-3).rows(*sides))[which]


def test_tolerances_are_counted_in_the_scale_of_their_stage():
    assert _judge("start_logits", [100.0], [100.00009]).ok  # absolute: 1e-4
    assert not _judge("start_logits", [0.0], [0.00011]).ok
    assert _judge("layer_1", [2.0, 0.0], [2.0, 0.9e-5]).ok  # relative to the largest: 2 x 5e-6
    assert not _judge("layer_1", [2.0, 0.0], [2.0, 1.1e-5]).ok
    assert not _judge("gradients", [1e-3, 0.0], [1e-3, 1.1e-7]).ok  # 1e-4 of the parameter's largest
    assert _judge("step 1", [0.0], [1.9e-5]).ok  # a way of 1e-3, a fiftieth of it
    assert not _judge("step 1", [0.0], [2.1e-5]).ok
    assert _judge("step 2", [0.0], [3.9e-5]).ok  # twice the way
    assert _judge("step 1", [5.0], [5.00004]).ok  # 1e-5 of the parameter
    assert _judge("step 2", [0.0] * 100, [0.0] * 99 + [3.9e-6], which=-2).ok  # rms 3.9e-7: 2e-4 of the way
    assert not _judge("step 2", [0.0] * 100, [0.0] * 99 + [4.1e-6], which=-2).ok


@pytest.mark.parametrize("stage", ["weights", "layer_1", "end_logits", "loss", "gradients", "step 1"])
def test_what_is_not_finite_differs(stage):
    assert not _judge(stage, [np.nan], [1.0]).ok
    assert not _judge(stage, [np.nan], [np.nan]).ok


def test_a_stage_is_judged_by_the_part_that_exceeds_its_tolerance_most():
    one = row("gradients", [Part("large", 1e-3, 1.0, 1e-2), Part("small", 1e-5, 1e-3, 1e-6), Part("equal", 0, 0, 0)])
    assert (one.worst, one.max_abs, one.relative, one.ok) == ("small", 1e-5, 1e-2, False)


def test_answers_of_left_padded_windows_are_found_where_their_rows_have_them():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, *"甲乙丙丁戊问"])
    examples = [Example("1", "问", "甲乙丙丁戊", (Answer("丙", 2, 3),))]
    windows = {"max_seq_length": 40, "template": TEMPLATES["xlnet"]}
    features = encode_spans(SPAN, (), examples, [None], tokenizer, **windows)
    batch = collate(features, [0])
    logits = (batch.inputs["input_ids"] == 6).astype(np.float32)
    answers = Answers(get_task("cmrc2018"), Data(examples, features), DecodeOptions(), TOLERANCES["fp32"])
    sides = [[span_outputs(batch.window, logits, logits)] for _ in range(2)]
    assert all(stage.ok for stage in answers.judge(*sides))
    assert answers.scores["pytorch"]["em"] == answers.scores["tensorflow"]["em"] == 100.0


def test_answers_that_score_the_same_to_within_rounding_are_no_difference():
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, *"甲乙丙丁戊问"])
    examples = [Example("1", "问", "甲乙丙丁戊", (Answer("丙", 2, 3),))]
    features = encode_spans(SPAN, (), examples, [None], tokenizer, max_seq_length=40)
    batch = collate(features, [0])
    answers = Answers(get_task("cmrc2018"), Data(examples, features), DecodeOptions(), TOLERANCES["fp32"])
    pieces = batch.inputs["input_ids"]
    for lead, same in ((1e-7, True), (1e-3, False)):
        sides = [
            ((pieces == 6) * (1 + a) + (pieces == 8) * (1 + b)).astype(np.float32) for a, b in ((lead, 0), (0, lead))
        ]
        stages = list(answers.judge(*([span_outputs(batch.window, x, x)] for x in sides)))
        assert [stage.ok for stage in stages] == [same] * len(stages)


@pytest.mark.parity
def test_the_command_compares_two_processes_and_imports_no_framework(corpus, tmp_path):
    arguments = [
        "parity", "--config_name", str(corpus.model), "--task", "cmrc2018", "--data_file", str(corpus.data),
        "--max_seq_length", "64", "--steps", "2", "--feature_cache_dir", "None", "--json", str(tmp_path / "out.json"),
    ]  # fmt: skip
    program = f"import sys\nfrom experiment.cli import main\nstatus = main({arguments!r})\n"
    program += "assert not {'torch', 'tensorflow', 'keras'} & set(sys.modules)\nsys.exit(status)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no difference beyond the tolerances of fp32" in done.stdout
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    stages = [one["stage"] for one in report["rows"]]
    assert stages[-6:-2] == ["step 1", "step 2", "predictions", "scores"]
    assert (report["ok"], report["first_difference"]) == (True, None)
    assert report["scores"]["pytorch"] == report["scores"]["tensorflow"] and "f1" in report["scores"]["pytorch"]


def test_a_difference_is_named_and_ends_with_status_1(corpus, capsys, monkeypatch, tmp_path):
    @contextlib.contextmanager
    def faulty(framework, job):
        wrong = replace(job, config=replace(job.config, layer_norm_eps=1e-3))
        yield observe(pytorch_modeling, job if framework == "pytorch" else wrong)

    monkeypatch.setattr(command, "observing", faulty)
    path = tmp_path / "out.json"
    flags = ["--config_name", corpus.model, "--task", "cjrc", "--steps", "1", "--json", path]
    assert main(["parity", *map(str, flags)]) == 1
    title, header, *table, last = capsys.readouterr().out.strip().splitlines()
    assert title == "pytorch and tensorflow, fp32"
    assert header.split("  ")[0] == "stage" and header.endswith("max abs  max relative  tolerance")
    assert last.startswith("first difference: embedding output, ")
    report = json.loads(path.read_text(encoding="utf-8"))
    verdicts = {True: "ok", False: "FAIL"}
    for line, stage in zip(table, report["rows"], strict=True):
        name, *_, max_abs, relative, tolerance, verdict = re.split(r" {2,}", line)
        assert (name, verdict) == (stage["stage"], verdicts[stage["ok"]])
        numbers = [stage[column] for column in ("max_abs", "relative", "tolerance")]
        assert [max_abs, relative, tolerance] == [f"{number:.2e}" for number in numbers]
    assert (report["ok"], report["first_difference"]) == (False, "embedding output")


def _fails(capsys, corpus, *flags):
    assert main(["parity", "--task", "cmrc2018", "--config_name", str(corpus.model), *map(str, flags)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    return error


def test_mistakes_are_one_line(capsys, corpus):
    assert "either --model_name_or_path" in _fails(capsys, corpus, "--model_name_or_path", "x/y")
    assert "--steps 0: must be at least 1" in _fails(capsys, corpus, "--steps", "0")
    assert "--bf16 and --fp16" in _fails(capsys, corpus, "--bf16", "--fp16")
    assert "65 > max_position_embeddings 64" in _fails(capsys, corpus, "--max_seq_length", "65")
    more = ("--data_file", corpus.data, "--max_seq_length", "65")
    assert "65 > max_position_embeddings 64" in _fails(capsys, corpus, *more)
    missing = ("--data_file", corpus.data.parent / "no.json", "--max_seq_length", "64")
    assert "no such file" in _fails(capsys, corpus, *missing)


def test_what_a_process_refuses_reaches_the_user():
    with observing("pytorch", _job(device="cuda:99")) as stream, pytest.raises(UsageError, match="--device cuda:99"):
        next(stream)


def test_a_process_that_dies_is_noticed(capfd):
    job = _job(replace(CONFIG, vocab_size=1000))
    job = replace(job, config=CONFIG)  # ids beyond the table
    with observing("pytorch", job) as stream, pytest.raises(ChildProcessError, match="the pytorch process ended"):
        list(stream)
    assert "IndexError" in capfd.readouterr().err
