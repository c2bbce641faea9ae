"""What PyTorch's trainer can be asked for."""

from __future__ import annotations

from importlib.util import find_spec

from preprocess.base.errors import UsageError
from preprocess.base.spec import TrainerSpec
from pytorch_modeling.distribute import Group


def check_trainer(spec: TrainerSpec, device: str) -> None:
    """Refuse what this framework, or so many processes, can't do.

    Args:
        spec: what is asked for.
        device: one of `devices()`, where the model will be.

    Raises:
        UsageError: naming the option and what to do.
    """
    if spec.jit_compile:
        raise UsageError("--jit_compile is for --framework tensorflow; leave it out")
    if spec.optim == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise UsageError(
            "--optim adamw8bit needs bitsandbytes, which is not installed: pip install 'chinese-mrc[8bit]'"
        )
    if spec.fsdp and Group.current().size == 1:
        raise UsageError("--fsdp divides the model among several processes; start them with torchrun")
    # Processes that wait for each other's parts can't give up a step.
    if spec.fsdp and (spec.auto_find_batch_size or spec.optim == "adamw8bit"):
        raise UsageError("--fsdp goes neither with --auto_find_batch_size nor with --optim adamw8bit; leave one out")
    if spec.fsdp and spec.lora_rank:
        raise UsageError("--fsdp divides whole layers, and --lora_rank takes their matrices out; leave one out")
    if spec.fsdp and spec.distill_hidden:
        raise UsageError("--fsdp and --distill_hidden: a divided model's head can't be changed; leave one out")
    adversarial = [name for name in ("fgm_epsilon", "pgd_epsilon") if spec.uses(name)]
    if adversarial and spec.auto_find_batch_size and Group.current().size > 1:
        raise UsageError(
            f"--{adversarial[0]} lets processes wait for each other in each pass, which --auto_find_batch_size can't "
            "give up; leave one out"
        )
