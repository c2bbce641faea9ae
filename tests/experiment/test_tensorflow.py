"""`--framework tensorflow` from the command line: training, the way to PyTorch and back, what it must not load."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiment.backend import choose_device
from experiment.cli import main
from preprocess.base.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "examples" / "corpus"
#: task -> how its recipe and its files are called
TASKS = {"cmrc2018": "demo", "drcd": "demo_drcd", "cjrc": "demo_cjrc"}
FRAMEWORKS = ("pytorch", "tensorflow")
#: What a finished seed leaves, and repeats to the last bit.
FILES = [f"checkpoint-best/{name}" for name in ("model.safetensors", "config.json", "mrc_settings.json")]
FILES += ["predictions_dev.json", "nbest_predictions_dev.json", "scores_dev.json"]
FORBIDDEN = {
    "pytorch": {"tensorflow", "keras", "tf_modeling"},
    "tensorflow": {"torch", "transformers", "pytorch_modeling"},
}
MODEL = {
    "vocab_size": 432,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
#: Runs the program and prints which modules that took.
PROGRAM = """
import sys
from experiment.cli import main
status = main(sys.argv[1:])
print("modules:", *sys.modules)
sys.exit(status)
"""
#: The same where one device counts as two.
MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    exec(PROGRAM)
"""
STILL = {**MODEL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The first articles of the bundled corpora, and the configuration of a model of one layer."""
    root = tmp_path_factory.mktemp("frameworks")
    for name in TASKS.values():
        for split, n_articles in {"train": 24, "dev": 6}.items():
            data = _read(CORPUS / f"{name}_{split}.json")
            data["data"] = data["data"][:n_articles]
            (root / f"{name}_{split}.json").write_text(json.dumps(data), encoding="utf-8")
    (root / "config.json").write_text(json.dumps(MODEL))
    (root / "still.json").write_text(json.dumps(STILL))
    return root


def _flags(place, task, framework, output, *more):
    name = TASKS[task]
    return [
        "train", "--framework", framework, "--config", str(ROOT / f"examples/{name}.yaml"),
        "--output_dir", str(output),
        "--config_name", str(place / "config.json"), "--tokenizer_name", str(CORPUS / "vocab.txt"),
        "--train_file", str(place / f"{name}_train.json"), "--validation_file", str(place / f"{name}_dev.json"),
        "--per_device_train_batch_size", "16", "--num_train_epochs", "2", "--eval_epochs", "1",
        "--learning_rate", "5e-3", "--feature_cache_dir", "None", "--seeds", "1", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(place):
    """Train a task in a framework, once; returns the directory of the seed."""

    def train(task, framework):
        output = place / f"{framework}_{task}"
        if not output.exists():
            assert main(_flags(place, task, framework, output)) == 0
        return output / "seed_1"

    return train


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _program(code, arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _fails(capsys, arguments, *expected):
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error, error
    for text in expected:
        assert text in error, error


def _probabilities(path):
    return np.array([entry["probability"] for entries in _read(path).values() for entry in entries])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_model_gives_the_same_answers_and_scores_in_the_other_framework(task, framework, trained, place, tmp_path):
    seed, gold = trained(task, framework), place / f"{TASKS[task]}_dev.json"
    (other,) = {*FRAMEWORKS} - {framework}
    arguments = ["--task", task, "--feature_cache_dir", "None", "--framework", other]
    arguments += ["--model_name_or_path", str(seed / "checkpoint-best"), "--test_file", str(gold)]
    assert main(["predict", *arguments, "--output_dir", str(tmp_path)]) == 0
    assert _read(tmp_path / "predictions.json") == _read(seed / "predictions_dev.json")
    arguments = ["--task", task, "--data_file", str(gold), "--predictions", str(tmp_path / "predictions.json")]
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "scores.json")]) == 0
    assert _read(tmp_path / "scores.json") == _read(seed / "scores_dev.json")
    found, expected = tmp_path / "nbest_predictions.json", seed / "nbest_predictions_dev.json"
    # Scores of the order of 1 are rounded to 1e-7 some ten times, and a probability moves by less than its score.
    np.testing.assert_allclose(_probabilities(found), _probabilities(expected), atol=2e-6, rtol=0)


@pytest.fixture(scope="module")
def two_seeds(place):
    """Train two seeds; returns the run and how often each function of TensorFlow was traced."""
    import tensorflow as tf

    functions, make = [], tf.function

    def recorded(*arguments, **options):
        functions.append(make(*arguments, **options))
        return functions[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", recorded)
        assert main(_flags(place, "cmrc2018", "tensorflow", place / "two_seeds", "--seeds", "1", "2")) == 0
    return place / "two_seeds", [function.experimental_get_tracing_count() for function in functions]


def test_no_function_is_traced_twice_whatever_the_shapes_of_batches(two_seeds):
    _, counts = two_seeds
    assert max(counts) == 1


def test_run_can_be_repeated_and_leaves_a_whole_record(two_seeds, trained):
    again, (run, _) = trained("cmrc2018", "tensorflow"), two_seeds
    assert all((run / "seed_1" / name).read_bytes() == (again / name).read_bytes() for name in FILES)
    assert (run / "seed_2" / FILES[0]).read_bytes() != (again / FILES[0]).read_bytes()
    record = _read(run / "seed_2" / "record.json")
    assert (record["status"], record["config"]["framework"]) == ("finished", "tensorflow")
    assert record["device"].startswith("CPU") and record["peak_bytes"] > 0 and record["speed"]["tokens_per_s"] > 0
    best = max(record["evaluations"], key=lambda e: e["dev"]["f1"] + e["dev"]["em"])
    assert len(record["evaluations"]) == 2 and record["scores"]["dev"] == best["dev"]


def test_same_command_goes_on_with_the_seed_that_is_not_finished(two_seeds, place):
    run, _ = two_seeds
    record = run / "seed_2" / "record.json"
    kept = (run / "seed_1" / FILES[0]).stat().st_mtime_ns
    finished = {name: (run / "seed_2" / name).read_bytes() for name in FILES}
    record.write_text(json.dumps({**_read(record), "status": "interrupted", "scores": {}}))
    assert main(_flags(place, "cmrc2018", "tensorflow", run, "--seeds", "1", "2")) == 0
    assert (run / "seed_1" / FILES[0]).stat().st_mtime_ns == kept
    assert {name: (run / "seed_2" / name).read_bytes() for name in FILES} == finished


@pytest.fixture(scope="module")
def still_runs(place):
    """Train without dropout, each in a process of its own: PyTorch, and TensorFlow on two devices.

    Returns framework -> (its evaluations, the modules that it loaded).
    """

    def flags(framework):
        still = ["--config_name", place / "still.json", "--adam_epsilon", "1e-6"]
        if framework == "tensorflow":  # half of what one device takes
            still += ["--per_device_train_batch_size", "8"]
        return _flags(place, "cmrc2018", framework, place / f"still_{framework}", *still)

    programs = {"pytorch": PROGRAM, "tensorflow": f"PROGRAM = {PROGRAM!r}\n{MIRRORED}"}
    processes = {framework: _program(code, flags(framework)) for framework, code in programs.items()}
    runs = {}
    for framework, process in processes.items():
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]
        record = _read(place / f"still_{framework}" / "seed_1" / "record.json")
        runs[framework] = record["evaluations"], set(output.rpartition("modules:")[2].split())
    return runs


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_never_imports_the_other_framework(framework, still_runs):
    _, modules = still_runs[framework]
    assert {"pytorch": "torch", "tensorflow": "tensorflow"}[framework] in modules
    assert not modules & FORBIDDEN[framework]


def test_run_on_two_devices_is_that_on_one_without_dropout(still_runs, place, tmp_path):
    still = ["--config_name", str(place / "still.json"), "--adam_epsilon", "1e-6"]
    assert main(_flags(place, "cmrc2018", "tensorflow", tmp_path / "one", *still)) == 0
    one, (two, _) = _read(tmp_path / "one/seed_1/record.json")["evaluations"], still_runs["tensorflow"]
    # Sums over two halves instead of one whole: rounding, which 22 steps of Adam amplify.
    assert [e["loss"] for e in two] == pytest.approx([e["loss"] for e in one], rel=1e-4)


@pytest.mark.parametrize(
    ("package", "arguments", "expected"),
    [
        ("tensorflow", ["train"], "tensorflow is not installed; pip install 'chinese-mrc[tensorflow]'"),
        ("keras", ["train"], "keras is not installed; pip install 'chinese-mrc[tensorflow]'"),
        ("tensorflow", ["export"], "tensorflow is not installed; pip install 'chinese-mrc[tensorflow]'"),
    ],
)
def test_framework_that_is_not_installed_is_one_line(package, arguments, expected, trained, place, tmp_path):
    if arguments == ["train"]:
        arguments = _flags(place, "cmrc2018", "tensorflow", tmp_path / "run")
    else:
        model = trained("cmrc2018", "pytorch") / "checkpoint-best"
        arguments = ["export", "--model_name_or_path", model, "--output", tmp_path / "run"]
    process = _program(f"import sys; sys.modules[{package!r}] = None\n{PROGRAM}", arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2
    assert errors.count("\n") == 1 and errors.startswith("error: ") and expected in errors
    assert not (tmp_path / "run").exists()


def test_keras_on_another_backend_is_one_line(place, tmp_path):
    process = _program(PROGRAM, _flags(place, "cmrc2018", "tensorflow", tmp_path / "run"), KERAS_BACKEND="jax")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2 and errors.count("\n") == 1 and "KERAS_BACKEND is 'jax'" in errors


def test_loss_that_is_not_finite_stops_with_one_line(place, tmp_path, capsys):
    flags = _flags(
        place, "cmrc2018", "tensorflow", tmp_path / "run", "--learning_rate", "1e30", "--warmup_ratio", "0"
    )
    _fails(capsys, flags, "lower ")
    assert _read(tmp_path / "run/seed_1/record.json")["status"] == "failed"


def test_device_cuda_is_all_gpus_where_a_framework_has_that_and_the_first_elsewhere(monkeypatch):
    import tensorflow as tf

    import tf_modeling

    def chosen(n_gpus, device):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * n_gpus)
        return choose_device(tf_modeling, device)

    assert [chosen(2, device) for device in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda:0", "cuda", "cuda:1", "cpu"]
    assert [chosen(1, device) for device in ("auto", "cuda")] == ["cuda:0", "cuda:0"]
    with pytest.raises(UsageError, match="no such device here; there are auto, cpu"):
        chosen(0, "cuda")


@pytest.mark.parametrize("cluster", ["{", '{"cluster": {"worker": ["localhost:1"]}}'])
def test_malformed_cluster_is_one_line(cluster, place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster)
    flags = _flags(place, "cmrc2018", "tensorflow", tmp_path / "run")
    _fails(capsys, flags, f"TF_CONFIG {cluster!r} describes no cluster")


def test_inspect_computes_the_layers_of_the_twin(trained, tmp_path):
    random = np.random.RandomState(0)
    mask = (np.arange(20) < np.array([[20], [13]])).astype(np.int32)
    np.savez(
        tmp_path / "inputs.npz",
        input_ids=random.randint(1, MODEL["vocab_size"], (2, 20)) * mask,
        attention_mask=mask,
        token_type_ids=(np.arange(20) >= 7) * mask,
    )
    outputs = {}
    for framework in FRAMEWORKS:
        arguments = ["--model_name_or_path", trained("cmrc2018", "tensorflow") / "checkpoint-best"]
        arguments += ["--inputs", tmp_path / "inputs.npz", "--output", tmp_path / f"{framework}.npz"]
        assert main(["inspect", "--framework", framework, *map(str, arguments)]) == 0
        with np.load(tmp_path / f"{framework}.npz") as file:
            outputs[framework] = dict(file)
    assert outputs["pytorch"].keys() == outputs["tensorflow"].keys() >= {"embedding_output", "sequence_output"}
    for name, values in outputs["pytorch"].items():
        np.testing.assert_allclose(outputs["tensorflow"][name], values, atol=2e-5, err_msg=name)  # of test_model


def test_converted_to_tensorflow_1_and_back_it_answers_the_same(trained, place, tmp_path):
    seed = trained("cmrc2018", "tensorflow")
    steps = [(seed / "checkpoint-best", "tf1"), (tmp_path / "tf1", "transformers")]
    for source, target in steps:
        assert main(["convert", "--from", str(source), "--to", target, "--output", str(tmp_path / target)]) == 0
    weights = [directory / "model.safetensors" for directory in (seed / "checkpoint-best", tmp_path / "transformers")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    arguments = ["--task", "cmrc2018", "--framework", "tensorflow", "--feature_cache_dir", "None"]
    arguments += ["--model_name_or_path", str(tmp_path / "tf1"), "--test_file", str(place / "demo_dev.json")]
    assert main(["predict", *arguments, "--output_dir", str(tmp_path / "answers")]) == 0
    answers = (tmp_path / "answers" / "predictions.json").read_bytes()
    assert answers == (seed / "predictions_dev.json").read_bytes()


def test_export_holds_all_that_a_server_needs(trained, tmp_path, capsys):
    import tensorflow as tf

    checkpoint, output = trained("cjrc", "pytorch") / "checkpoint-best", tmp_path / "served"
    assert main(["export", "--model_name_or_path", str(checkpoint), "--output", str(output)]) == 0
    assert "kind_logits [B, 3]" in capsys.readouterr().out
    for name in ("vocab.txt", "mrc_settings.json"):
        assert (output / "assets" / name).read_bytes() == (checkpoint / name).read_bytes()
    serve = tf.saved_model.load(str(output)).signatures["serving_default"]
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in serve.structured_outputs.items()} == {
        "start_logits": (tf.float32, [None, None]),
        "end_logits": (tf.float32, [None, None]),
        "kind_logits": (tf.float32, [None, 3]),
    }
    (tmp_path / "file").write_text("")
    for taken in (output, tmp_path / "file"):
        command = ["export", "--model_name_or_path", checkpoint, "--output", taken]
        _fails(capsys, command, "exists and is not empty")


def test_export_refuses_what_can_not_answer(trained, tmp_path, capsys):
    from preprocess.tokenizers.base import load_tokenizer
    from pretrained_configs.published import read_config
    from pytorch_modeling import build_model, save_weights

    bare = tmp_path / "bare"
    bare.mkdir()
    config = read_config(trained("cmrc2018", "pytorch") / "checkpoint-best")
    save_weights(build_model(config, None, device="cpu"), bare)
    load_tokenizer(CORPUS / "vocab.txt").save(bare)
    _fails(capsys, ["export", "--model_name_or_path", bare, "--output", tmp_path / "out"], str(bare), "no task head")
    fine_tuned = trained("cmrc2018", "pytorch") / "checkpoint-best"
    command = ["export", "--model_name_or_path", fine_tuned, "--output", tmp_path / "out"]
    (tmp_path / "short.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    _fails(capsys, [*command, "--tokenizer_name", tmp_path / "short.txt"], "the vocabulary has 4 entries")
    assert not (tmp_path / "out").exists()


def test_export_to_a_full_disk_is_one_line_and_leaves_nothing(trained, tmp_path, capsys):
    checkpoint = trained("cmrc2018", "pytorch") / "checkpoint-best"
    command = ["export", "--model_name_or_path", checkpoint, "--output", tmp_path / "out"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on file sizes is what a full disk is to a program; the weights take more.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        _fails(capsys, command, "the SavedModel can't be written", "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("more", "expected"), [((), None), (("--jit_compile", "True"), True)])
def test_xla_is_what_the_flag_says_and_else_the_trainers_choice(more, expected, place, tmp_path, monkeypatch):
    taken = []

    class Stop(Exception):
        pass

    def trainer(model, spec):
        taken.append(spec.jit_compile)
        raise Stop

    monkeypatch.setattr("tf_modeling.Trainer", trainer)
    with pytest.raises(Stop):
        main(_flags(place, "cmrc2018", "tensorflow", tmp_path / "run", *more))
    assert taken == [expected]


@pytest.mark.parametrize("more", [("--jit_compile", "True"), ("--auto_find_batch_size",)])
def test_what_several_devices_cannot_do_is_refused(more, place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tf_modeling.capabilities.n_devices", lambda device: 2)
    flags = _flags(place, "cmrc2018", "tensorflow", tmp_path / "run", *more)
    _fails(capsys, flags, f"{more[0]} is for a single device in TensorFlow, here are 2")
    assert not (tmp_path / "run").exists()


def test_exhausted_memory_is_one_line_with_a_remedy(place, tmp_path, capsys, monkeypatch):
    import tensorflow as tf

    def exhausted(self, batches):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("tf_modeling.Trainer.step", exhausted)
    flags = _flags(place, "cmrc2018", "tensorflow", tmp_path / "run")
    _fails(capsys, flags, "out of memory; in training give --auto_find_batch_size")
