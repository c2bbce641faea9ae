"""Options of `pretrain`: its texts, and what is hidden of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.data import DEFAULT_DATA_DIR, Count, FeatureCacheOptions
from experiment.options.devices import DeviceChoice, PrecisionOptions, StepPrecisionOptions, TrainingDeviceOptions
from experiment.options.fields import Rule
from experiment.options.methods import MethodOptions, StoppingOptions
from experiment.options.model import ModelChoice, TokenizerOptions
from experiment.options.optimisation import Epochs, NotNegative, OptimizerOptions, ScheduleOptions, Seeds
from experiment.options.running import RunOptions
from experiment.options.windows import Size

Share = Annotated[float, Rule("more than 0 and less than 1", lambda x: 0 < x < 1)]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts (of a task's files, of plain files, or both)."""

    task: str | None = None
    """Task whose layout --train_file has, such as cmrc2018 (`tasks` lists them): the contexts are read, each once."""
    train_file: tuple[Path, ...] = ()
    """Files in the layout of --task (default: what `download` fetched for it, if there is no --text_file)."""
    text_file: tuple[Path, ...] = ()
    """Plain text files in UTF-8; each line that is not blank is a text."""
    validation_file: tuple[Path, ...] = ()
    """Texts to evaluate on, in the layout of --task, or plain where none is given (default: a share of the texts)."""
    validation_share: Share = 0.05
    """Share of the texts that is held out where no --validation_file is given."""
    opencc_config: str | None = None
    """OpenCC configuration that converts the task's contexts, such as t2s, or none (default: the task's)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Where `download` keeps its files."""
    max_train_samples: Count | None = None
    """Use only the first so many texts to train on."""


@dataclass(frozen=True, kw_only=True)
class MaskingOptions:
    """What is hidden."""

    max_seq_length: Size = 512
    """Window length in tokens; longer texts are cut into windows that follow each other."""
    masked_lm_prob: Share = 0.15
    """Share of a window's tokens that are hidden: of these 80 % are replaced, 10 % random, and 10 % stay."""
    max_predictions_per_seq: Size | None = None
    """Most pieces hidden in a window (default: the share of a full one)."""
    masking: Literal["word", "ngram"] = "word"
    """Hide whole words, as BERT-wwm; or runs of one to four of them (40, 30, 20 and 10 %), as MacBERT."""
    similar_words: Path | None = None
    """Table of similar words, which replace hidden ones as in MacBERT; a line per word: word similar similar …
    Words that are not in it are replaced by random pieces."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(
    Texts,
    FeatureCacheOptions,
    ModelChoice,
    TokenizerOptions,
    MaskingOptions,
    ScheduleOptions,
    OptimizerOptions,
    MethodOptions,
    StoppingOptions,
    DeviceChoice,
    PrecisionOptions,
    StepPrecisionOptions,
    TrainingDeviceOptions,
    RunOptions,
):
    """Go on with the pretraining of a model on texts of your own: whole words, cut by jieba, are to be guessed.

    The best checkpoint of a seed holds encoder, head and vocabulary, for --model_name_or_path of `train`.

    Examples:
        pretrain --task cmrc2018 --train_file train.json --model_name_or_path hfl/chinese-roberta-wwm-ext \
            --output_dir runs/adapted
        pretrain --text_file judgments.txt laws.txt --model_name_or_path hfl/chinese-macbert-base --masking ngram \
            --similar_words similar.txt --output_dir runs/legal --num_train_epochs 10 --bf16
        pretrain --task drcd --model_name_or_path hfl/chinese-bert-wwm --output_dir runs/traditional --seeds 1 2 3
    """

    num_train_epochs: Epochs | None = 3.0
    """Passes over the texts, with other words hidden in each."""
    learning_rate: NotNegative | None = 5e-5
    """Peak learning rate."""
    seeds: Seeds = (123,)
    """One model is trained per seed."""
