"""Options about a grid: which cells it has, and who trains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiment.options.devices import Framework
from experiment.options.fields import AT_LEAST_0, AT_LEAST_1, MAPPING, NameOrPath, Rule
from experiment.options.optimisation import Seeds

#: Annotates values of which none may stand there twice.
_EACH_ONCE = Rule("each once", lambda x: len(set(x)) == len(x))
#: How the names of GPUs, and of parts of them, begin.
_NAMED = ("GPU-", "MIG-")
#: Annotates what CUDA_VISIBLE_DEVICES takes, or "cpu": of other names no GPU would be visible, without a word.
_DEVICE = Rule(
    "a GPU's number or name (GPU-…, MIG-…), or cpu", lambda x: x == "cpu" or x.isdecimal() or x[:4] in _NAMED
)


@dataclass(frozen=True, kw_only=True)
class GridAxes:
    """What is combined with what."""

    models: Annotated[tuple[NameOrPath, ...], _EACH_ONCE] = ()
    """Checkpoints, as train's --model_name_or_path takes them; a run directory stands for the best checkpoint of each
    of its finished seeds. NAME=CHECKPOINT says what to call one."""
    config_names: Annotated[tuple[NameOrPath, ...], _EACH_ONCE] = ()
    """Architectures that are trained from scratch, as train's --config_name takes them; NAME=PATH, too."""
    tasks: Annotated[tuple[str, ...], _EACH_ONCE] = ()
    """Tasks, such as cmrc2018 (`tasks` lists them); cmrc2018,drcd are learned together, in cells called
    cmrc2018+drcd."""
    frameworks: Annotated[
        tuple[Framework, ...], Rule("at least one framework, and each once", lambda x: 0 < len(x) == len(set(x)))
    ] = ("pytorch",)
    """Backends that compute."""
    variants: Annotated[tuple[str, ...], _EACH_ONCE] = ()
    """Names of sets of options that everything is trained with; --settings says what is in them."""
    seeds: Seeds = (123, 456, 789, 556, 977)
    """One model is trained per seed, task, framework and variant."""
    leave_out: tuple[str, ...] = ()
    """Cells without a place in the grid, such as "cjrc, rbt3": those that have all these names."""
    settings: Annotated[tuple[str, ...], MAPPING] = ()
    """Options of train by the cells that they are for: `all: {bf16: true}`, `cjrc: {learning_rate: 4e-5}`,
    `"cjrc, rbt3": {num_train_epochs: 3}`. What stands later wins."""


@dataclass(frozen=True, kw_only=True)
class GridWorkers:
    """Workers."""

    executor: Literal["local", "ray", "submitit"] = "local"
    """Who starts the processes: this command, Ray (the cluster that RAY_ADDRESS names, else one of this machine), or
    Slurm by submitit. All but the first need the run directory on a disk that all machines share."""
    devices: tuple[Annotated[str, _DEVICE], ...] = ()
    """With --executor local one worker each: numbers of GPUs, or cpu; `cpu cpu` are two workers (default: every GPU
    that is visible, else cpu)."""
    gpus_per_cell: Annotated[float, AT_LEAST_0] | None = None
    """What a cell asks of Ray or Slurm (default: 1 if the Ray cluster has GPUs, and of Slurm)."""
    cpus_per_cell: Annotated[int, AT_LEAST_1] = 1
    """What a cell asks of Ray or Slurm."""
    executor_options: tuple[str, ...] = ()
    """NAME=VALUE for submitit's AutoExecutor, such as timeout_min=600 slurm_partition=gpu, or for ray.init, such as
    address=auto."""
    retry_failed: bool = False
    """Train cells that have failed once more; without, they are passed over."""
    retrain_changed: bool = False
    """Where a run directory holds another run than the grid now asks for, rename it and train anew."""


@dataclass(frozen=True, kw_only=True)
class GridView:
    """To look and train nothing."""

    dry_run: bool = False
    """Only print the plan: cells, memory and time."""
    gpu: str | None = None
    """With --dry_run: plan for this GPU, such as a100-40gb (default: the one of this machine, or its CPU)."""
    status: bool = False
    """Only print how far the grid in --output_dir is, from any terminal."""
    watch: bool = False
    """With --status: print it again and again, until all is done."""
