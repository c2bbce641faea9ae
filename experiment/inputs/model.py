"""The model a run starts from, its tokenizer, and what they allow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

from experiment.inputs.settings import Settings, read_settings
from experiment.inputs.tokenizer import LoadedTokenizer, fitting_tokenizer
from experiment.options.flags import ParityOptions, PretrainOptions, TrainOptions
from experiment.options.model import ModelChoice, TokenizerOptions
from experiment.options.recipe import Recipe, StepRecipe
from preprocess.base.errors import UsageError
from preprocess.template import Template, pretrained_template
from preprocess.tokenizers.base import Tokenizer
from pretrained_configs import catalog
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import checksum
from pretrained_configs.locate import locate
from pretrained_configs.published import read_config


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from, checked.

    Args:
        name: what the leaderboard calls it.
        checkpoint: what to load weights from; None for a model from scratch.
        config: its architecture.
        loaded_tokenizer: its tokenizer, and what is to be said of it.
        template: how its windows are laid out.
    """

    name: str
    checkpoint: Checkpoint | None
    config: ModelConfig
    loaded_tokenizer: LoadedTokenizer
    template: Template

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self.loaded_tokenizer.tokenizer

    @property
    def published(self) -> catalog.PublishedModel | None:
        """What the catalogue knows of it, if its weights were asked for by short name or hub id."""
        return self.checkpoint.published if self.checkpoint is not None else None

    @cached_property
    def checkpoint_sha256(self) -> str:
        """The SHA-256 of the weights' files; "" from scratch."""
        return checksum(self.checkpoint.files) if self.checkpoint is not None else ""


def template_of(config: ModelConfig, tokenizer: Tokenizer, settings: Settings | None = None) -> Template:
    """Return how windows are laid out for a model: as in its fine-tuning, else as in its pretraining.

    Args:
        config: its architecture.
        tokenizer: its tokenizer.
        settings: what it was fine-tuned with, if it was.
    """
    if settings is not None and settings.template:
        return Template(**settings.template)
    return pretrained_template(tokenizer.template, Template(**asdict(config.family.template)))


def model_source(options: TrainOptions | PretrainOptions) -> ModelSource:
    """Find config and tokenizer of the model and check that they belong together.

    Raises:
        UsageError, DataError, CheckpointError: naming what is missing or does not fit.
    """
    name = model_choice(options)
    if options.config_name is not None:
        return from_scratch(name, options)
    return from_checkpoint(read_checkpoint(name, options.hidden_act), options)


def from_checkpoint(checkpoint: Checkpoint, options: TokenizerOptions) -> ModelSource:
    """Add the tokenizer to a checkpoint.

    Raises:
        UsageError, DataError, CheckpointError: if it is missing or does not fit.
    """
    loaded_tokenizer = fitting_tokenizer(
        options.tokenizer_name or checkpoint.directory, options.do_lower_case, checkpoint.config
    )
    template = template_of(checkpoint.config, loaded_tokenizer.tokenizer, read_settings(checkpoint.directory))
    return ModelSource(checkpoint.name, checkpoint, checkpoint.config, loaded_tokenizer, template)


def from_scratch(config_name: str, options: TrainOptions | PretrainOptions | ParityOptions) -> ModelSource:
    """Find an architecture and the tokenizer beside it.

    Raises:
        UsageError, DataError, CheckpointError: naming what is missing or does not fit.
    """
    place = locate(config_name, weights=False)
    config = read_config(place.path, options.hidden_act)
    loaded_tokenizer = fitting_tokenizer(options.tokenizer_name or place.directory, options.do_lower_case, config)
    template = template_of(config, loaded_tokenizer.tokenizer)
    return ModelSource(f"{place.name} (from scratch)", None, config, loaded_tokenizer, template)


def model_choice(options: ModelChoice) -> str:
    """Return the name of the checkpoint or architecture that was given.

    Raises:
        UsageError: if both were, or neither.
    """
    given = [name for name in (options.model_name_or_path, options.config_name) if name is not None]
    if len(given) != 1:
        raise UsageError("give either --model_name_or_path (fine-tune) or --config_name (train from scratch)")
    return given[0]


def check_limits(
    recipe: Recipe,
    name: str,
    config: ModelConfig,
    published: catalog.PublishedModel | None,
) -> None:
    """Refuse windows longer than the model's position table or published limit, and more layers than it has.

    Args:
        recipe: whose windows and layers are meant.
        name: of the model.
        config: its architecture.
        published: what the catalogue knows of it, if it is in there.

    Raises:
        UsageError: naming the limit.
    """
    length = recipe.max_seq_length
    offset = config.family.first_position(config)
    limits = {f"max_position_embeddings{f' - {offset}' if offset else ''}": config.family.usable_length(config)}
    if published is not None:
        limits["published limit"] = published.max_seq_length
    for what, limit in limits.items():
        if length > limit:
            raise UsageError(f"--max_seq_length {length} > {what} {limit} ({name}); use at most {limit}")
    n_recomputed = recipe.gradient_checkpointing if isinstance(recipe, StepRecipe) else 0
    if n_recomputed > (most := config.family.n_layers(config)):
        raise UsageError(f"--gradient_checkpointing {n_recomputed} > {most} layers ({name}); use at most {most}")
