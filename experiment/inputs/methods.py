"""Whether a model has what training methods ask for."""

from __future__ import annotations

from preprocess.base.errors import UsageError
from preprocess.base.methods import LORA_PLACES, Methods
from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from pretrained_configs.levels import n_levels


def check_methods(methods: Methods, name: str, config: ModelConfig, head: HeadSpec) -> None:
    """Refuse more layers than a model has, and methods that would change nothing.

    Args:
        methods: what is asked for.
        name: of the model.
        config: its architecture.
        head: of the task.

    Raises:
        UsageError: naming the option and the limit.
    """
    most = n_levels(config)
    for option in ("reinit_layers", "freeze_layers"):
        if (n := getattr(methods, option)) > most:
            raise UsageError(f"--{option} {n} > {most} layers of {name} that share no parameters; use at most {most}")
    if methods.freeze_layers + methods.reinit_layers > most:
        raise UsageError(
            f"--freeze_layers {methods.freeze_layers} and --reinit_layers {methods.reinit_layers} meet in the "
            f"{most} layers of {name}: what is drawn anew has to learn; lower one of them"
        )
    if methods.label_smoothing and all(output.loss != "position" for output in head.outputs):
        raise UsageError("--label_smoothing is for tasks whose answers are positions in the text; leave it out")
    if methods.lora_rank and config.ffn_num_groups > 1:
        in_blocks = [target for target in methods.lora_targets if LORA_PLACES[target][0].startswith("ffn.")]
        if in_blocks:
            raise UsageError(
                f"--lora_targets {' '.join(in_blocks)}: {name} has no whole matrix there, but "
                f"{config.ffn_num_groups} blocks; leave it out"
            )
