"""The PyTorch implementation of the models, their training step and their predictions."""

from pytorch_modeling.checkpoint import check_weights, load_weights, parameter_shapes, save_weights
from pytorch_modeling.model import build_model, device_facts, devices, set_seed
from pytorch_modeling.predictor import hidden_states, predict
from pytorch_modeling.trainer import Trainer

__all__ = [
    "Trainer",
    "build_model",
    "check_weights",
    "device_facts",
    "devices",
    "hidden_states",
    "load_weights",
    "parameter_shapes",
    "predict",
    "save_weights",
    "set_seed",
]
