"""The TensorFlow implementation of the models, their training step and their predictions."""

import os

if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        f"KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}, and tf_modeling runs on TensorFlow: "
        "unset it, or set it to 'tensorflow'"
    )
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings and errors, without a word on the processor's features

from pretrained_configs.formats.tensorflow_file import silenced

with silenced():
    import tensorflow  # noqa: F401

from tf_modeling.capabilities import check_trainer
from tf_modeling.checkpoint import check_weights, load_model, load_weights, parameter_shapes, save_weights
from tf_modeling.distribute import Group
from tf_modeling.errors import translated
from tf_modeling.model import (
    allow_tf32,
    be_deterministic,
    build_model,
    device_facts,
    devices,
    n_devices,
    outline,
    set_seed,
)
from tf_modeling.predictor import hidden_states, last_states, predict, release_memory
from tf_modeling.probe import activations, gradients, parameter_values, set_parameters
from tf_modeling.profiling import profiler
from tf_modeling.trainer import Trainer

allow_tf32(False)  # as PyTorch does it: only where it is asked for

__all__ = [
    "Group",
    "Trainer",
    "activations",
    "allow_tf32",
    "be_deterministic",
    "build_model",
    "check_trainer",
    "check_weights",
    "device_facts",
    "devices",
    "gradients",
    "hidden_states",
    "last_states",
    "load_model",
    "load_weights",
    "n_devices",
    "outline",
    "parameter_shapes",
    "parameter_values",
    "predict",
    "profiler",
    "release_memory",
    "save_weights",
    "set_parameters",
    "set_seed",
    "translated",
]
