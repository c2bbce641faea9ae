"""From options to the things a run works with: recipe, tokenizer, model config, examples, features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from experiment.backend import Backend
from experiment.estimate.hardware import n_layers
from experiment.io.terminal import Bars
from experiment.options.flags import (
    ADAM_EPSILON,
    FeatureOptions,
    ModelChoice,
    OptimizerOptions,
    ParityOptions,
    PredictOptions,
    StepOptions,
    TaskChoice,
    TokenizerOptions,
    TrainOptions,
)
from preprocess.base.errors import DataError, UsageError
from preprocess.batch import collate, eval_batches
from preprocess.cache import cached_encode
from preprocess.readers.report import DataReport
from preprocess.tokenizers.wordpiece import WordPieceTokenizer, load_tokenizer
from preprocess.types import Answer, Batch, Example, FeatureSet, Logits
from pretrained_configs import catalog
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import checksum
from pretrained_configs.locate import locate
from pretrained_configs.published import read_checkpoint, read_config
from tasks.core.discovery import get_task
from tasks.core.task import DecodeOptions, Task, TaskOptions

#: Share of the word table's rows that a model's own vocabulary may leave unused.
_MAX_SPARE_ROWS = 0.01

Options = TypeVar("Options", bound=FeatureOptions)
AnyModel = TrainOptions | PredictOptions | ParityOptions


def resolve_recipe(
    options: Options, task: Task, model_name: str | None, settings: Mapping[str, Any] | None = None
) -> Options:
    """Fill the options that were left out.

    Args:
        options: None where left out.
        task: its defaults come last.
        model_name: a published model's recipe for the task goes before the task's defaults.
        settings: what a fine-tuned checkpoint was trained with goes before both.

    Raises:
        UsageError: if options contradict each other.
    """
    own = ADAM_EPSILON[options.optim] if isinstance(options, OptimizerOptions) else None
    recipe = {"adam_epsilon": own, **task.defaults, **_published(model_name).get(task.name, {}), **(settings or {})}
    names = {f.name for f in fields(options)}
    missing = {k: v for k, v in recipe.items() if k in names and getattr(options, k) is None}
    if options.doc_overlap is not None:
        if options.doc_stride is not None:
            raise UsageError("--doc_stride and --doc_overlap both given: they are two ways to say one thing, use one")
        missing.pop("doc_stride", None)
    elif options.doc_stride is not None:
        missing.pop("doc_overlap", None)
    if options.bf16 and options.fp16:
        raise UsageError("--bf16 and --fp16 both given: use one")
    return replace(options, **missing)


def _published(model_name: str | None) -> Mapping[str, Mapping[str, Any]]:
    model = catalog.find(model_name) if model_name is not None else None
    return model.recipes if model is not None else {}


def precision_of(options: FeatureOptions) -> str:
    """Return "bf16", "fp16" or "fp32"."""
    return "bf16" if options.bf16 else "fp16" if options.fp16 else "fp32"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from, checked.

    Args:
        name: what the leaderboard calls it.
        checkpoint: what to load weights from; None for a model from scratch.
        config: its architecture.
        tokenizer: its tokenizer.
        checkpoint_sha256: of the weights file, "" from scratch.
        published: what the catalogue knows of it, if it is in there.
    """

    name: str
    checkpoint: str | None
    config: ModelConfig
    tokenizer: WordPieceTokenizer
    checkpoint_sha256: str
    published: catalog.PublishedModel | None


def model_source(options: AnyModel) -> ModelSource:
    """Find config and tokenizer of the model and check that they belong together.

    Raises:
        UsageError, DataError, CheckpointError: naming what is missing or does not fit.
    """
    check_model_choice(options)
    checkpoint = options.model_name_or_path
    if checkpoint is not None:
        found = read_checkpoint(checkpoint, options.hidden_act)
        config = found.config
        tokenizer_at: str | Path = options.tokenizer_name or found.files.directory
        name, digest = _display_name(checkpoint), checksum(found.files)
    else:
        assert options.config_name is not None
        located = locate(options.config_name, weights=False)
        config = read_config(located, hidden_act=options.hidden_act)
        tokenizer_at = options.tokenizer_name or (located if located.is_dir() else located.parent)
        name, digest = f"{_display_name(options.config_name)} (from scratch)", ""
    published = catalog.find(checkpoint) if checkpoint is not None else None
    tokenizer = fitting_tokenizer(tokenizer_at, lower_case(options, published), config)
    return ModelSource(name, checkpoint, config, tokenizer, digest, published)


def check_model_choice(options: ModelChoice) -> None:
    """Refuse both or neither of a checkpoint and an architecture.

    Raises:
        UsageError: saying so.
    """
    if (options.model_name_or_path is None) == (options.config_name is None):
        raise UsageError("give either --model_name_or_path (fine-tune) or --config_name (train from scratch)")


def lower_case(options: TokenizerOptions, published: catalog.PublishedModel | None) -> bool | None:
    """Return whether text is lower-cased: as the user says, or the authors of the published model.

    None leaves it to the tokenizer's files, which on the hub contradict the authors for some models.
    """
    if options.do_lower_case is None and published is not None and options.tokenizer_name is None:
        return published.do_lower_case
    return options.do_lower_case


def fitting_tokenizer(
    name_or_path: str | Path, do_lower_case: bool | None, config: ModelConfig
) -> WordPieceTokenizer:
    """Load a tokenizer and check that the model has been trained with its vocabulary.

    Raises:
        UsageError, DataError, CheckpointError: if it is missing, damaged, or another model's.
    """
    tokenizer = load_tokenizer(locate(name_or_path, weights=False), do_lower_case)
    # Some tables are padded: ERNIE 1.0's has 18000 rows for 17964 pieces.
    if not 0 <= config.vocab_size - tokenizer.vocab_size <= _MAX_SPARE_ROWS * config.vocab_size:
        raise UsageError(
            f"{name_or_path}: the vocabulary has {tokenizer.vocab_size} entries, the model's embedding "
            f"{config.vocab_size} rows; give the model's own vocabulary with --tokenizer_name"
        )
    return tokenizer


def _display_name(name_or_path: str) -> str:
    path = Path(name_or_path)
    if path.is_file():
        path = path.parent
    return path.resolve().name if path.exists() else name_or_path


def check_limits(
    options: StepOptions | PredictOptions | ParityOptions,
    name: str,
    config: ModelConfig,
    published: catalog.PublishedModel | None,
) -> None:
    """Refuse windows longer than the model's position table or published limit, and more layers than it has.

    Args:
        options: with every default resolved.
        name: of the model.
        config: its architecture.
        published: what the catalogue knows of it, if it is in there.

    Raises:
        UsageError: naming the limit.
    """
    length = options.max_seq_length
    assert length is not None
    limits = {"max_position_embeddings": config.max_position_embeddings}
    if published is not None:
        limits["published limit"] = published.max_seq_length
    for what, limit in limits.items():
        if length > limit:
            raise UsageError(f"--max_seq_length {length} > {what} {limit} ({name}); use at most {limit}")
    n_recomputed = options.gradient_checkpointing if isinstance(options, StepOptions) else 0
    if n_recomputed > n_layers(config):
        most = n_layers(config)
        raise UsageError(f"--gradient_checkpointing {n_recomputed} > {most} layers ({name}); use at most {most}")


def read_examples(task: Task, path: Path, limit: int | None = None) -> tuple[list[Example], DataReport]:
    """Read a data file of the task, at most `limit` questions of it."""
    examples, report = task.read(path)
    return examples[:limit], report


@dataclass(frozen=True)
class Data:
    """Examples and their windows.

    Args:
        examples: the questions.
        features: their windows.
    """

    examples: list[Example]
    features: FeatureSet


def first_targets(task: Task, examples: Sequence[Example]) -> list[Answer | None]:
    """Return each example's first answer to train on, or None."""
    return [next(iter(task.targets(example)), None) for example in examples]


def encode(
    task: Task,
    examples: list[Example],
    targets: Sequence[Answer | None],
    tokenizer: WordPieceTokenizer,
    options: FeatureOptions,
) -> Data:
    """Encode examples under the resolved options, through the cache."""
    cache = options.feature_cache_dir.expanduser() if options.feature_cache_dir else None
    params: dict[str, Any] = {
        "max_seq_length": options.max_seq_length,
        "doc_stride": options.doc_stride,
        "doc_overlap": options.doc_overlap,
        "max_query_length": options.max_query_length,
        "kinds": task.head.kinds,
        "transform": task.transform,
    }
    params = {name: value for name, value in params.items() if value is not None}
    return Data(examples, cached_encode(cache, examples, targets, tokenizer, **params))


@dataclass(frozen=True)
class Trainable:
    """Examples with what they are trained on; an example with several targets stands there several times.

    Args:
        examples: the examples.
        targets: one answer each.
        without_target: ids of the questions that nothing can be trained on.
    """

    examples: list[Example]
    targets: list[Answer]
    without_target: list[str]


def trainable(task: Task, examples: Sequence[Example]) -> Trainable:
    """Pair examples with their targets.

    Raises:
        DataError: if no example has one.
    """
    pairs = [(example, target) for example in examples for target in task.targets(example)]
    if not pairs:
        raise DataError("no question has an answer that can be trained on")
    kept = {example.id for example, _ in pairs}
    without = [example.id for example in examples if example.id not in kept]
    return Trainable([example for example, _ in pairs], [target for _, target in pairs], without)


def decode_options(options: FeatureOptions) -> DecodeOptions:
    """Return the decoding part of resolved options."""
    assert options.n_best_size is not None and options.max_answer_length is not None
    threshold = 0.0 if options.null_score_diff_threshold is None else options.null_score_diff_threshold
    longest = options.max_seq_length or options.max_answer_length
    # No window holds more positions, or a longer answer, than it has tokens.
    return DecodeOptions(min(options.n_best_size, longest), min(options.max_answer_length, longest), threshold)


def task_of(options: TaskChoice) -> Task:
    """Return the task with the user's choices made."""
    name = "squad_v2" if options.task == "squad" and options.version_2_with_negative else options.task
    return get_task(name, TaskOptions(**{f.name: getattr(options, f.name) for f in fields(TaskOptions)}))


def logits_of(
    backend: Backend, model: Any, data: Data, options: FeatureOptions, bars: Bars, description: str
) -> Iterator[Logits]:
    """Run the model over all windows, with a progress bar."""
    rows = eval_batches(data.features, options.per_device_eval_batch_size)
    batches: Iterator[Batch] = (collate(data.features, each) for each in bars.tracked(description, rows))
    return backend.predict(model, batches, precision=precision_of(options))
