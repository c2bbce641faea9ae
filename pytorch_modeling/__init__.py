"""The PyTorch implementation of the models, their training step and their predictions."""

from pytorch_modeling.capabilities import check_trainer
from pytorch_modeling.checkpoint import check_weights, load_model, load_weights, parameter_shapes, save_weights
from pytorch_modeling.distribute import Group
from pytorch_modeling.errors import translated
from pytorch_modeling.model import (
    allow_tf32,
    be_deterministic,
    build_model,
    device_facts,
    devices,
    n_devices,
    outline,
    set_seed,
)
from pytorch_modeling.predictor import hidden_states, last_states, predict, release_memory
from pytorch_modeling.probe import activations, gradients, parameter_values, set_parameters
from pytorch_modeling.profiling import profiler
from pytorch_modeling.trainer import Trainer

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
