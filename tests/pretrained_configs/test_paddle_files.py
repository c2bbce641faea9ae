"""model_state.pdparams, as PaddleNLP publishes ERNIE 3.0 and NEZHA: read whole, and never run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import stated_values

SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
#: format -> its family, and what PaddleNLP's configuration of it states beside the sizes.
FORMATS = {
    "paddlenlp_ernie": ("bert", {"hidden_act": "relu"}),
    "paddlenlp_ernie_tasks": ("ernie", {"hidden_act": "gelu", "use_task_id": True, "task_type_vocab_size": 3}),
    "paddlenlp_nezha": ("nezha", {"hidden_act": "gelu", "use_relative_position": True, "intermediate_size": 48}),
}


def saved(directory: Path, values: Any, config: dict[str, Any], protocol: int = 4) -> Path:
    """Write what paddle.save makes of a state dict, which is plain pickle, and a configuration."""
    (directory / "model_config.json").write_text(json.dumps({**SIZES, **config}), "utf-8")
    path = directory / "model_state.pdparams"
    path.write_bytes(pickle.dumps(values, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", FORMATS)
def test_paddle_s_arrays_are_the_model_s_parameters(tmp_path: Path, name: str, protocol: int) -> None:
    family, stated = FORMATS[name]
    shapes = parameter_shapes(ModelConfig(**SIZES, intermediate_size=48, model_type=family), pooled=True)
    random = np.random.RandomState(0)
    ours = {key: random.randn(*shape).astype(np.float32) for key, shape in shapes.items()}
    arrays = NameMap.load(name).to_theirs(ours)
    saved(tmp_path, {**arrays, "StructuredToParameterName@@": dict.fromkeys(arrays, "x")}, stated, protocol)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.namemap.name == name
    with checkpoint.stream(shapes, fresh_head=False) as (report, tensors):
        found = dict(tensors)
    assert not report.ignored and found.keys() == ours.keys()
    assert all(np.array_equal(found[key], ours[key]) for key in ours)


class _RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"x": _RunsCode()},
            r"asks to run '(posix|nt)\.system'.*; nothing of it was run; save the model's state_dict",
        ),
        ({"x": np.array([{}], object)}, r"not a table of named arrays \(x\); save the model's state_dict alone"),
        ({"model": {"x": np.zeros(1)}}, r"not a table of named arrays \(model\)"),
        ([np.zeros(1)], r"not a table of named arrays \(list\)"),
        ({}, r"not a table of named arrays \(dict\)"),
    ],
)
def test_a_file_with_more_than_arrays_is_refused_and_not_run(
    tmp_path: Path, values: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, values, {})
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"{path}: ") and not (tmp_path / "was_run").exists()


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path, {"x": np.zeros(100, np.float32)}, {})
    for end in (20, -1):
        path.write_bytes(path.read_bytes()[:end])
        with pytest.raises(CheckpointError, match=r"not a whole Paddle file \(.*\); copy or download it again"):
            read_checkpoint(path)


def test_a_configuration_inside_that_of_its_head_is_read(tmp_path: Path) -> None:
    stated = {**SIZES, **FORMATS["paddlenlp_ernie_tasks"][1], "init_class": "ErnieModel"}
    nested = {"init_class": "ErnieForQuestionAnswering", "init_args": [stated]}
    (tmp_path / "model_config.json").write_text(json.dumps(nested), "utf-8")
    assert stated_values(tmp_path / "model_config.json") == stated
    (tmp_path / "model_config.json").write_text(json.dumps({**stated, "init_args": []}), "utf-8")
    assert stated_values(tmp_path / "model_config.json") == {**stated, "init_args": []}


def test_a_task_that_is_not_the_first_is_refused(tmp_path: Path) -> None:
    # PaddleNLP adds the row that task_id names; another one would be wrong weights, silently.
    names = ("encoder.layers.0.self_attn.q_proj.weight", "embeddings.layer_norm.weight")
    config = {**FORMATS["paddlenlp_ernie_tasks"][1], "task_id": 2}
    saved(tmp_path, {f"ernie.{name}": np.zeros(32, np.float32) for name in names}, config)
    with pytest.raises(CheckpointError, match=r"model_config\.json: task_id 2 is not supported \(only 0\)"):
        read_checkpoint(tmp_path)
