"""Options of the commands that make a model smaller: numbers of 8 bits, and a vocabulary of what is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.data import Count
from experiment.options.fields import AT_LEAST_0, AT_LEAST_ONE, POSITIONAL, NameOrPath

_Drop = Annotated[float, AT_LEAST_0]


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Write a fine-tuned model as an ONNX bundle with weights of 8 bits, unless its score falls by too much.

    Examples:
        quantize runs/roberta --check dev.json --output served/int8
        quantize served/onnx --check dev.json --max_f1_drop 0.2 --output served/int8
        quantize served/onnx --check dev.json --max_eval_samples 500 --framework onnx --output served/int8
    """

    model_name_or_path: Annotated[NameOrPath, POSITIONAL]
    """Run directory, whose best seed is taken; or a fine-tuned checkpoint, or an ONNX bundle of `export`."""
    check: Path
    """Data file with answers, in the task's layout, that the model is scored on before and after."""
    output: Path
    """Directory to write; must not exist, or be empty."""
    max_f1_drop: _Drop = 0.5
    """Points of F1 (of a task without F1: of what selects its checkpoint) that the score may fall by."""
    framework: Literal["openvino", "onnx"] = "openvino"
    """What will compute it, here and later: OpenVINO, or onnxruntime, which rounds activations less finely."""
    task: str | None = None
    """Task (default: the one that the model was fine-tuned for)."""
    max_eval_samples: Count | None = None
    """Use only the first so many questions of --check."""
    per_device_eval_batch_size: Count = 8
    """Windows per batch."""


@dataclass(frozen=True, kw_only=True)
class PruneVocabularyOptions:
    """Write a checkpoint without the rows of the vocabulary that the texts of data files never use.

    Texts made of the pieces that stay are cut, and answered, as before; other characters become unknown.

    Examples:
        prune_vocabulary runs/e5/seed_1/checkpoint-best --data_files train.json dev.json --output e5-zh
        prune_vocabulary intfloat/multilingual-e5-small --task cmrc2018 --data_files train.json --check test.json \
            --output e5-zh
        prune_vocabulary my/model --task drcd --data_files train.json --do_lower_case --output small
    """

    model_name_or_path: Annotated[NameOrPath, POSITIONAL]
    """Run directory, whose best seed is taken; or a checkpoint: a directory, weights file, hub id or short name."""
    data_files: Annotated[tuple[Path, ...], AT_LEAST_ONE]
    """Files in the task's layout whose texts the vocabulary shall serve."""
    output: Path
    """Directory to write; must not exist, or be empty."""
    check: Path | None = None
    """Another file in the task's layout: what becomes unknown in its texts is counted."""
    task: str | None = None
    """Task whose layout the files have (default: the one that the checkpoint was fine-tuned for)."""
    tokenizer_name: NameOrPath | None = None
    """Directory, vocab.txt or tokenizer.json (default: the checkpoint's own)."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: as the vocabulary and the tokenizer's files tell)."""
    hidden_act: Literal["gelu", "gelu_tanh", "quick_gelu", "relu"] | None = None
    """Activation, if the one of the checkpoint's config is to be overruled."""
