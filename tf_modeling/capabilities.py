"""What TensorFlow's trainer can be asked for."""

from __future__ import annotations

from preprocess.base.errors import UsageError
from preprocess.base.spec import TrainerSpec
from tf_modeling.model import n_devices


def check_trainer(spec: TrainerSpec, device: str) -> None:
    """Refuse what this framework, or so many replicas, can't do.

    Args:
        spec: what is asked for.
        device: one of `devices()`, where the model will be.

    Raises:
        UsageError: naming the option and what to do.
    """
    for name in ("torch_compile", "fsdp"):
        if getattr(spec, name):
            raise UsageError(f"--{name} is for --framework pytorch; leave it out")
    if spec.optim == "adamw8bit":
        raise UsageError("--optim adamw8bit is for --framework pytorch; use adamw")
    adversarial = [name for name in ("fgm_epsilon", "pgd_epsilon") if spec.uses(name)]
    if adversarial and spec.auto_find_batch_size:
        raise UsageError(
            f"--{adversarial[0]} moves the word embeddings, and TensorFlow can't move them back where "
            "--auto_find_batch_size gives up a step; leave one out"
        )
    if (n := n_devices(device)) > 1:
        # A replica that gives up leaves the others waiting for its gradients; XLA has no sum over replicas.
        for name in ("auto_find_batch_size", "jit_compile"):
            if getattr(spec, name):
                raise UsageError(f"--{name} is for a single device in TensorFlow, here are {n}; leave it out")
