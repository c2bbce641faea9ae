"""The model a run starts from, its tokenizer, and what they allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiment.estimate.hardware import n_layers
from experiment.options.flags import (
    ModelChoice,
    ParityOptions,
    PredictOptions,
    StepOptions,
    TokenizerOptions,
    TrainOptions,
)
from preprocess.base.errors import UsageError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from pretrained_configs import catalog
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import checksum
from pretrained_configs.locate import locate
from pretrained_configs.published import read_checkpoint, read_config

#: Share of the word table's rows that a model's own vocabulary may leave unused.
_MAX_SPARE_ROWS = 0.01

AnyModel = TrainOptions | PredictOptions | ParityOptions


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
    tokenizer: Tokenizer
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


def fitting_tokenizer(name_or_path: str | Path, do_lower_case: bool | None, config: ModelConfig) -> Tokenizer:
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
