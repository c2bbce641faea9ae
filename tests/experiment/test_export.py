"""`export` writes what answers as the model does, or nothing; what it wrote is asked like a checkpoint."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import pytorch_modeling.export
from experiment.backend import PACKAGES
from experiment.cli import main
from experiment.export.bundle import max_length
from experiment.inputs.settings import FILE_NAME, Settings
from experiment.reading.reader import Reader
from preprocess.base.files import write_json
from preprocess.base.hashing import sha256
from preprocess.tokenizers.base import load_tokenizer
from pretrained_configs.config import ModelConfig
from pretrained_configs.published import read_config
from tasks.core.discovery import get_task

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CORPUS = Path(__file__).resolve().parents[2] / "examples" / "corpus"
SIZES = {
    "vocab_size": 432,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    # Wide enough that answers differ from question to question.
    "initializer_range": 0.3,
}
PROJECTED = {"embedding_size": 8, "embedding_projection": "output"}
#: name -> (what it is trained by, its task and data, its architecture)
MODELS = {
    "bert": ("pytorch", "cjrc", "demo_cjrc_dev", {}),
    "albert": ("pytorch", "drcd", "demo_drcd_dev", {"model_type": "albert", **PROJECTED}),
    "electra": ("tensorflow", "squad_v2", "demo_dev", {"model_type": "electra", **PROJECTED}),
    "xlnet": ("pytorch", "drcd", "demo_drcd_dev", {"model_type": "xlnet"}),
    "roberta": ("pytorch", "cjrc", "demo_cjrc_dev", {"model_type": "roberta"}),
}
WINDOWS = {"max_seq_length": 64, "doc_stride": 16, "doc_overlap": None, "max_query_length": 24}
DECODING = {"n_best_size": 5, "max_answer_length": 9, "null_score_diff_threshold": -0.5}
FORMATS = {"onnx": "model.onnx", "exported_program": "model.pt2", "saved_model": "saved_model.pb"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The first articles of a corpus; returns name -> file."""
    root = tmp_path_factory.mktemp("data")

    def cut(name, n_articles=2):
        values = json.loads((CORPUS / f"{name}.json").read_text(encoding="utf-8"))
        values["data"] = values["data"][:n_articles]
        path = root / f"{name}.json"
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        return path

    return cut


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights with all that fine-tuning leaves beside them; returns name -> directory."""
    made = {}

    def make(name):
        if name not in made:
            framework, task, _, changes = MODELS[name]
            config = ModelConfig(**SIZES | changes)
            directory = tmp_path_factory.mktemp(name) / "checkpoint-best"
            directory.mkdir()
            backend = import_module(PACKAGES[framework])
            backend.save_weights(backend.build_model(config, get_task(task).problem.head, device="cpu"), directory)
            tokenizer = load_tokenizer(CORPUS / "vocab.txt")
            tokenizer.save(directory)
            facts = {**tokenizer.options, "fingerprint": tokenizer.fingerprint}
            settings = Settings(task, get_task(task).version, WINDOWS | DECODING, {}, facts, precision="bf16")
            write_json(directory / FILE_NAME, asdict(settings))
            made[name] = directory
        return made[name]

    return make


def _export(model, output, *flags):
    return main(["export", "--model_name_or_path", str(model), "--output", str(output), *map(str, flags)])


def _answers(model, task, file, output):
    flags = ["--task", task, "--model_name_or_path", model, "--test_file", file, "--output_dir", output]
    assert main(["predict", *map(str, flags), "--feature_cache_dir", "None", "--device", "cpu"]) == 0
    return json.loads((output / "nbest_predictions.json").read_text(encoding="utf-8"))


def _fails(capsys, status, *expected):
    assert status == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    for text in expected:
        assert text in error, error


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("bert", "onnx"),
        ("electra", "onnx"),
        ("xlnet", "onnx"),
        ("albert", "exported_program"),
        ("roberta", "exported_program"),
        ("bert", "saved_model"),
    ],
)
def test_exported_models_answer_as_the_model_does(name, form, checkpoint, data, tmp_path, capfd):
    _, task, corpus, _ = MODELS[name]
    model, file, output = checkpoint(name), data(corpus), tmp_path / "served"
    capfd.readouterr()
    assert _export(model, output, "--format", form, "--check", file) == 0
    printed, errors = capfd.readouterr()
    assert errors == "", "what a library says of itself is not for the user"
    assert [line.split(":")[0].split(" ")[0] for line in printed.splitlines() if "mapped" not in line] == [
        str(file), "namemap", {"onnx": "ONNX", "exported_program": "ExportedProgram"}.get(form, "SavedModel"),
        {"saved_model": "serving_default"}.get(form, FORMATS[form]), "checked",
    ]  # fmt: skip
    assert (output / FORMATS[form]).is_file()
    manifest = json.loads((output / "mrc_export.json").read_text(encoding="utf-8"))
    assets = output / manifest["assets"]
    for companion in ("vocab.txt", "tokenizer_config.json", FILE_NAME):
        assert (assets / companion).read_bytes() == (model / companion).read_bytes()
    assert manifest["weights_sha256"] == sha256(model / "model.safetensors")
    check = manifest["check"]
    assert (check["file"], check["sha256"], check["task"]) == (file.name, sha256(file), task)
    assert check["largest_difference"] < 1e-4
    expected = _answers(model, task, file, tmp_path / "model")
    found = _answers(output, task, file, tmp_path / "exported")
    assert check["n_questions"] == len(expected) > 5
    assert len({entries[0]["text"] for entries in expected.values()}) > 1, "one answer to all would prove nothing"
    for id, entries in expected.items():
        assert [entry["text"] for entry in found[id]] == [entry["text"] for entry in entries]
        probabilities = [[entry["probability"] for entry in part] for part in (found[id], entries)]
        np.testing.assert_allclose(*probabilities, atol=1e-4)
    assert capfd.readouterr().err.count("computes in fp32 here") == 1, "an exported model has no precision to choose"


@pytest.fixture
def perturbed(monkeypatch):
    """Let what is exported differ from the model, by as much as is asked."""
    write = pytorch_modeling.export.export

    def by(bias):
        def other(model, directory, assets):
            model.head["span"].bias.data[0] += bias
            model.head["span"].weight.data[0] *= -1
            write(model, directory, assets)
            model.head["span"].weight.data[0] *= -1
            model.head["span"].bias.data[0] -= bias

        monkeypatch.setattr(pytorch_modeling.export, "export", other)

    return by


def test_export_that_answers_otherwise_is_refused_and_leaves_nothing(checkpoint, data, perturbed, tmp_path, capsys):
    perturbed(1.0)
    file = data("demo_drcd_dev")
    status = _export(checkpoint("albert"), tmp_path / "out", "--format", "exported_program", "--check", file)
    first = json.loads(file.read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]["qas"][0]["id"]
    _fails(capsys, status, f"--check {file}", f"question {first!r}", "answers differ", "nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_tie_that_rounding_decides_is_said_to_be_one(checkpoint, data, tmp_path, capsys, monkeypatch):
    """Where all positions score the same, the smallest change of the weights brings another answer."""
    load = pytorch_modeling.export.load_export

    def level(directory):
        served = load(directory)
        return lambda inputs: {
            name: 1e-6 * np.arange(value.shape[1], dtype=np.float32) + 0 * value
            for name, value in served(inputs).items()
        }

    monkeypatch.setattr(pytorch_modeling.export, "load_export", level)
    predict = pytorch_modeling.predict

    def flat(*arguments, **options):
        for outputs in predict(*arguments, **options):
            yield replace(outputs, values={name: 0 * value for name, value in outputs.values.items()})

    monkeypatch.setattr(pytorch_modeling, "predict", flat)
    flags = ("--format", "exported_program", "--check", data("demo_drcd_dev"))
    _fails(capsys, _export(checkpoint("albert"), tmp_path / "out", *flags), "the same but for rounding: leave such")


def test_only_so_many_questions_are_compared_as_was_asked(checkpoint, data, tmp_path, capsys):
    flags = ("--format", "exported_program", "--check", data("demo_drcd_dev"), "--max_eval_samples", 3)
    assert _export(checkpoint("albert"), tmp_path / "out", *flags) == 0
    assert "checked: all 3 answers" in capsys.readouterr().out
    status = _export(checkpoint("albert"), tmp_path / "other", "--max_eval_samples", 3)
    _fails(capsys, status, "--max_eval_samples is about the questions of --check")


def test_interrupted_check_leaves_nothing(checkpoint, data, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        assert any(path.name == "model.pt2" for path in tmp_path.rglob("*")), "the program has been written"
        raise KeyboardInterrupt

    monkeypatch.setattr(pytorch_modeling.export, "load_export", interrupt)
    flags = ("--format", "exported_program", "--check", data("demo_drcd_dev"))
    assert _export(checkpoint("albert"), tmp_path / "out", *flags) == 130
    assert list(tmp_path.iterdir()) == []


def test_export_that_was_not_checked_says_so(checkpoint, tmp_path, capsys):
    assert _export(checkpoint("albert"), tmp_path / "out", "--format", "exported_program") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("not checked: with --check FILE")
    assert json.loads((tmp_path / "out" / "mrc_export.json").read_text(encoding="utf-8"))["check"] is None


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_package_that_is_not_installed_is_one_line(package, checkpoint, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    flags = ("--format", "onnx", "--check", data("demo_drcd_dev"))
    status = _export(checkpoint("albert"), tmp_path / "out", *flags)
    _fails(
        capsys, status, f"--format onnx: {package} is not installed; pip install 'chinese-mrc[export]' installs it"
    )
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_leaves_nothing(checkpoint, tmp_path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # the vocabulary takes 2 kB, the weights 40
    try:
        _fails(capsys, _export(checkpoint("bert"), tmp_path / "out", "--format", "onnx"), "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unsettled(checkpoint, tmp_path):
    """A model that does not say what it was fine-tuned for, as others' are."""
    directory = tmp_path / "published"
    directory.mkdir()
    for path in checkpoint("albert").iterdir():
        if path.name != FILE_NAME:
            (directory / path.name).write_bytes(path.read_bytes())
    return directory


def test_model_of_others_is_checked_for_the_task_that_is_given(unsettled, data, tmp_path, capsys):
    flags = ("--format", "exported_program", "--check", data("demo_drcd_dev"))
    status = _export(unsettled, tmp_path / "out", *flags)
    _fails(capsys, status, "does not say what task it was fine-tuned for; give it with --task")
    assert _export(unsettled, tmp_path / "out", *flags, "--task", "cmrc2018") == 0
    assert "checked: all" in capsys.readouterr().out


def test_task_that_is_not_here_stands_in_the_way_of_a_check_alone(unsettled, checkpoint, data, tmp_path, capsys):
    settings = json.loads((checkpoint("albert") / FILE_NAME).read_text(encoding="utf-8"))
    write_json(unsettled / FILE_NAME, {**settings, "task": "gone"})
    status = _export(unsettled, tmp_path / "out", "--format", "exported_program", "--check", data("demo_drcd_dev"))
    _fails(capsys, status, "unknown task 'gone'")
    assert _export(unsettled, tmp_path / "out", "--format", "exported_program") == 0
    assert "start_logits [B, S], end_logits [B, S] float32" in capsys.readouterr().out


def test_input_without_a_limit_is_said_to_have_none(checkpoint, monkeypatch):
    config = read_config(checkpoint("bert"))
    assert max_length(config) == SIZES["max_position_embeddings"]
    monkeypatch.setattr(type(config.family), "usable_length", lambda *_: 2**31 - 1)
    assert max_length(config) is None


def test_bundle_reads_letters_as_it_was_exported(unsettled, tmp_path):
    """What the vocabulary seems to want (it has no capital letter) is overruled once, not at every question."""
    flags = ("--format", "exported_program", "--do_lower_case", "False")
    assert _export(unsettled, tmp_path / "out", *flags) == 0
    reader = Reader.load(tmp_path / "out", task="cmrc2018", max_seq_length=64)
    assert reader.prepared.source.tokenizer.options["do_lower_case"] is False
    reader = Reader.load(tmp_path / "out", task="cmrc2018", max_seq_length=64, do_lower_case=True)
    assert reader.prepared.source.tokenizer.options["do_lower_case"] is True


def test_bundle_lays_windows_out_as_its_manifest_says(unsettled, tmp_path):
    """The files of its tokenizer may say less than those of the checkpoint did."""
    assert _export(unsettled, tmp_path / "out", "--format", "exported_program") == 0
    manifest = tmp_path / "out" / "mrc_export.json"
    about = json.loads(manifest.read_text())
    order = ["context", "sep", "question", "sep", "cls"]
    changed = {**about["template"], "order": order, "segments": [0, 0, 1, 1, 2]}
    manifest.write_text(json.dumps({**about, "template": changed}))
    reader = Reader.load(tmp_path / "out", task="cmrc2018", max_seq_length=64)
    assert list(reader.prepared.source.template.order) == order


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundle") / "out"
    assert _export(checkpoint("albert"), output, "--format", "onnx") == 0
    return output


def test_onnx_is_asked_without_a_framework(bundle):
    program = (
        "import sys; from experiment.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or str({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    question = ["--task", "drcd", "--question", "誰？", "--context", "甲乙"]
    command = [sys.executable, "-c", program, "predict", "--model_name_or_path", str(bundle), *question]
    done = subprocess.run(command, cwd=CORPUS.parents[1], capture_output=True, text=True, timeout=600)
    assert done.stderr == "set()\n" and done.stdout.count("p=") == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--bf16",), "--bf16: "),
        (("--device", "cuda:0"), "--device: "),
        (("--hidden_act", "relu"), "--hidden_act: "),
        (("--task", "cjrc"), "fine-tuned for task drcd"),
        (("--max_seq_length", "96"), "--max_seq_length 96 > max_position_embeddings 80"),
    ],
)
def test_what_an_exported_model_can_not_do_is_refused(flags, expected, bundle, capsys):
    question = ("--model_name_or_path", str(bundle), "--question", "誰？", "--context", "甲")
    _fails(capsys, main(["predict", "--task", "drcd", *question, *flags]), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "mrc_export.json"),
        ('{"form": "tape"}', "a form of a newer version ('tape'); export it again"),
        ('{"form": "onnx", "template": {"sides": 2}}', "not a template of windows"),
    ],
)
def test_damaged_bundle_is_one_line(text, expected, tmp_path, capsys):
    (tmp_path / "mrc_export.json").write_text(text)
    status = main(
        ["predict", "--task", "drcd", "--model_name_or_path", str(tmp_path), "--question", "a", "--context", "a"]
    )
    _fails(capsys, status, str(tmp_path), expected)
