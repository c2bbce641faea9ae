"""The options of every subcommand: one documented field per flag.

Flags are named as in transformers' run_qa.py where one exists. What several commands share stands in the groups that
`--help` shows. The first line of a class says what its command does; the lines under "Examples:" end its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.answers import AskLlmOptions as AskLlmOptions
from experiment.options.answers import CalibrateOptions as CalibrateOptions
from experiment.options.answers import EnsembleOptions as EnsembleOptions
from experiment.options.answers import SubmitOptions as SubmitOptions
from experiment.options.data import (
    Count,
    EvaluationFiles,
    FeatureCacheOptions,
    Files,
    TaskChoice,
    TaskOfModel,
)
from experiment.options.devices import (
    DeviceChoice,
    EngineChoice,
    PrecisionOptions,
    TrainingDeviceOptions,
)
from experiment.options.distillation import DistillationOptions
from experiment.options.fields import AT_LEAST_0, AT_LEAST_ONE, POSITIONAL, SHARE, Named, NameOrPath, Rule
from experiment.options.grid import GridAxes, GridView, GridWorkers
from experiment.options.methods import StoppingOptions
from experiment.options.model import FineTuned, HiddenAct, ModelChoice, TokenizerOptions, TransferOptions
from experiment.options.optimisation import Seed
from experiment.options.parity import ParityOptions as ParityOptions
from experiment.options.pretraining import PretrainOptions as PretrainOptions
from experiment.options.reading import AskOptions as AskOptions
from experiment.options.reading import ServeOptions as ServeOptions
from experiment.options.reporting import CardInputs, ReportInputs
from experiment.options.running import RunOptions
from experiment.options.smaller import PruneVocabularyOptions as PruneVocabularyOptions
from experiment.options.smaller import QuantizeOptions as QuantizeOptions
from experiment.options.steps import StepOptions
from experiment.options.upkeep import CacheOptions, CompletionOptions, DownloadOptions, ModelsOptions, TasksOptions
from experiment.options.windows import Size, WindowOptions

#: What `experiment.commands` finds here beside the classes below; `--help` names them last.
__all__ = ["CacheOptions", "CompletionOptions", "DownloadOptions", "ModelsOptions", "TasksOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions(
    StepOptions,
    EvaluationFiles,
    StoppingOptions,
    DistillationOptions,
    TransferOptions,
    TrainingDeviceOptions,
    RunOptions,
):
    """Fine-tune over seeds, evaluate, and print the leaderboard row.

    Options that are left out take the published recipe of the model for the task, else the task's own.

    Examples:
        train --task cmrc2018 --model_name_or_path hfl/chinese-roberta-wwm-ext --output_dir runs/roberta
        train --config runs/roberta/config.yaml --learning_rate 2e-5 --output_dir runs/roberta-2e-5
        train --task cmrc2018,drcd --config_name examples/corpus --train_file cmrc2018=train.json drcd=drcd.json \
            --validation_file cmrc2018=dev.json drcd=drcd_dev.json --output_dir runs/both --seeds 1 2 3 --bf16
    """


@dataclass(frozen=True, kw_only=True)
class GridOptions(GridAxes, GridWorkers, GridView):
    """Train models x tasks x frameworks x seeds, and print their leaderboard; the same command goes on.

    Examples:
        grid --config examples/grids/demo.yaml
        grid --config examples/grids/reference.yaml --dry_run --gpu a100-40gb
        grid --status --watch --output_dir runs/reference
    """

    output_dir: Path
    """Gets a run directory for each model, task, framework and variant."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions(StepOptions):
    """Predict memory, largest batch and time of `train` with the same options, on known GPUs and this machine.

    A --config file may hold the other options of `train`, too: they change nothing here.

    Examples:
        plan --task cmrc2018 --model_name_or_path chinese-roberta-wwm-ext-large --bf16
        plan --task cmrc2018 --model_name_or_path chinese-roberta-wwm-ext-large --gpu t4 --gradient_checkpointing 12
        plan --config runs/roberta/config.yaml --gpu a100-40gb --n_devices 4 --json plan.json
    """

    #: Whose options a --config file may hold without any effect.
    passes_over = TrainOptions

    gpu: str | None = None
    """Only this GPU, such as a100-40gb or h100 (default: all that are known, and this machine's CPU)."""
    n_devices: Annotated[int, Rule("at least 1 and at most 10000", lambda x: 1 <= x <= 10**4)] = 1
    """Devices that share each batch (torchrun)."""
    json: Path | None = None
    """JSON file for the table and all its parts."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(
    TaskOfModel, FineTuned, TokenizerOptions, WindowOptions, EngineChoice, PrecisionOptions, FeatureCacheOptions
):
    """Answer the questions of a file, or one question, with a fine-tuned model, or with what `export` made of it.

    Options that are left out are as in the fine-tuning, if the checkpoint tells, else the recipe's.

    Examples:
        predict --task cmrc2018 --model_name_or_path runs/roberta/seed_123/checkpoint-best --test_file test.json \
            --output_dir predictions
        predict --model_name_or_path runs/roberta --question 小猫住在哪里？ --context 小猫住在北京。
        predict --task chnsenticorp --model_name_or_path my/model --context 房间很干净。
    """

    test_file: Files | None = None
    """Questions to answer, in the task's layout; several files are read as one."""
    output_dir: Path | None = None
    """Gets predictions.json and nbest_predictions.json."""
    question: str | None = None
    """One question, instead of --test_file; of a task about pairs, the first text."""
    context: str | None = None
    """The text that answers --question, or the second of a pair; of a task about one text, that text alone."""
    min_confidence: Annotated[float, SHARE] = 0.0
    """Leave answers empty that are less sure than this, 0-1; see `calibrate` for what it means."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(TaskChoice):
    """Score a prediction file with the task's official metric.

    Examples:
        evaluate --task cmrc2018 --data_file dev.json --predictions predictions.json
        evaluate --task squad_v2 --data_file dev.json --predictions p.json --na_prob_file null_odds.json
        evaluate --task drcd --data_file dev.json --predictions predictions.json --output scores.json \
            --nbest_file nbest_predictions.json
    """

    data_file: Files
    """Data with the gold answers; several files are read as one."""
    predictions: Path
    """JSON object {question id: answer}, or the official list of {"id", "answer"}."""
    missing_predictions: Literal["wrong", "error"] = "wrong"
    """Whether questions without a prediction are counted as wrong or refused."""
    na_prob_file: Path | None = None
    """JSON object {question id: probability that it has no answer}, for SQuAD 2.0's best thresholds."""
    na_prob_thresh: float = 1.0
    """With --na_prob_file, answers of questions above this probability are taken as empty."""
    nbest_file: Path | None = None
    """nbest_predictions.json of the same answers: how well their probabilities tell right from wrong."""
    output: Path | None = None
    """JSON file for all values and the scores per question."""


@dataclass(frozen=True, kw_only=True)
class StatsOptions(TaskChoice):
    """Print how long the texts are, and what each window length cuts off.

    Examples:
        stats --task cmrc2018 --data_file train.json --tokenizer_name hfl/chinese-roberta-wwm-ext
        stats --task cmrc2018 --data_file train.json --tokenizer_name vocab.txt --max_seq_length 256 512
        stats --task drcd --data_file train.json --tokenizer_name vocab.txt --histogram lengths.png
    """

    data_file: Path
    """Data to measure."""
    tokenizer_name: NameOrPath
    """Directory, vocab.txt or tokenizer.json."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: as the vocabulary and the tokenizer's files tell; the log says why)."""
    max_seq_length: Annotated[tuple[Size, ...], AT_LEAST_ONE] = (128, 256, 384, 512)
    """Window lengths to compare, in tokens."""
    doc_stride: Size | None = None
    """Tokens between the starts of two windows."""
    doc_overlap: Annotated[int, AT_LEAST_0] | None = None
    """Tokens that two windows share; replaces --doc_stride."""
    max_query_length: Size | None = None
    """Questions are cut to this many tokens."""
    histogram: Path | None = None
    """Picture file (.png, .svg or .pdf) for a histogram of the lengths."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions(TaskChoice):
    """Split a data file into train and dev, articles (cases) undivided, each domain (or label) by its share.

    Examples:
        split --task cmrc2018 --data_file all.json --output_dir data
        split --task cjrc --data_file all.json --output_dir data --test_size 0.2
        split --task chnsenticorp --data_file all.tsv --output_dir data --seed 7
    """

    data_file: Path
    """Data to split."""
    output_dir: Path
    """Gets train.json and dev.json, of rows train.tsv and dev.tsv; files that are there are not replaced."""
    test_size: float = 0.1
    """Share of the articles that dev gets, between 0 and 1."""
    seed: Seed = 0
    """Seed of the draw."""


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions:
    """Tabulate run directories as mean(max) over their seeds, beside prediction files and published scores.

    With any option but --output, each score has its interval over questions and seeds, the best is compared with the
    others, and scores of different protocols stand in different columns.

    Examples:
        leaderboard runs/roberta runs/macbert
        leaderboard runs/* --published reference,hfl --format latex --output table.tex
        leaderboard runs/bert --task cmrc2018 --data_file dev.json --predictions llm=answers.json
    """

    runs: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Run directories, or one that holds several, such as a grid's."""
    output: Path | None = None
    """File for the table."""
    published: str | None = None
    """Published scores to stand beside, separated by commas: reference, hfl, clue, human … (docs/leaderboard.md)."""
    predictions: tuple[str, ...] = ()
    """Prediction files of any toolkit, name=FILE; files of one name are seeds. Needs --task and --data_file."""
    task: str | None = None
    """Task whose metric scores --predictions, such as cmrc2018 (`tasks` lists them)."""
    data_file: Path | None = None
    """Data with the gold answers of --predictions; also says which questions share an article."""
    format: Literal["markdown", "latex", "csv", "json", "terminal"] | None = None
    """Form of the table (default: markdown); csv and json hold every number in full."""
    style: Literal["columns", "reference"] | None = None
    """A column per metric, or one per protocol as F1:87.521(88.628) EM:67.381(69.152) (default: columns)."""
    columns: tuple[Literal["score", "sd", "interval", "delta", "seeds"], ...] = ()
    """What to show of each metric (default: score interval delta seeds; no interval with --style reference)."""
    metrics: tuple[str, ...] = ()
    """Values to show, such as f1 em reference_f1 (default: those that select the checkpoint)."""
    sort: str | None = None
    """Order of the rows: score (sum of the metrics shown), a metric, model, or given (default: score)."""
    selection: tuple[Literal["each_best", "best_dev", "joint"], ...] = ()
    """Further rules to score runs by: each metric at its own best evaluation; on test, the seed best on dev; of
    several tasks, the checkpoint that is best for all."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(ReportInputs):
    """Write a page of HTML: scores, curves, calibration, and every question with its answers; it opens from disk.

    Examples:
        report runs/roberta runs/macbert --output report
        report runs/* --data_file dev.json test.json --output report
        report runs/bert --task cmrc2018 --data_file dev.json --predictions llm=answers.json --output report
    """

    output: Path
    """Directory that gets index.html."""


@dataclass(frozen=True, kw_only=True)
class CardOptions(CardInputs):
    """Write a run's README.md and results for the hub, with metrics, intervals, protocol and command.

    Examples:
        card runs/roberta
        card runs/roberta --seed 2 --output card
        card runs/roberta --push_to_hub me/roberta-cmrc2018 --weights --private
    """

    output: Path | None = None
    """Directory for README.md and .eval_results (default: the run's)."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions(ModelChoice, DeviceChoice):
    """Print a checkpoint's architecture and what its files loaded into; compute its hidden states.

    Examples:
        inspect --model_name_or_path hfl/chinese-roberta-wwm-ext
        inspect --config_name examples/corpus
        inspect --model_name_or_path runs/roberta/seed_123/checkpoint-best --inputs inputs.npz --output states.npz
    """

    seed: Seed = 0
    """Seed of the weights, if no checkpoint is given."""
    inputs: Path | None = None
    """.npz with input_ids, attention_mask (1 = real token) and token_type_ids, int [B, S]; what it holds under the
    name of an output is compared with that."""
    output: Path | None = None
    """.npz for sequence_output, pooled_output and layer_1 … layer_L, float32."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write a checkpoint in another format; the numbers stay the same to the last bit.

    Examples:
        convert --from chinese_roberta_wwm_ext_L-12_H-768_A-12/bert_model.ckpt --to transformers --output roberta
        convert --from hfl/chinese-macbert-base --to tf1 --output macbert-tf1
        convert --from runs/roberta/seed_123/checkpoint-best --to reference --output roberta-reference
    """

    source: Annotated[NameOrPath, Named("from")]
    """Checkpoint: directory, weights file, TensorFlow prefix, hub id or short name; of a run directory, its best."""
    to: Literal["transformers", "tf1", "reference", "native"]
    """Who shall read it: transformers, the authors' TensorFlow 1 programs, the reference system, or this toolkit."""
    output: Path
    """Directory to write; must not exist, or be empty."""
    hidden_act: HiddenAct | None = None
    """Activation, if the checkpoint's own is to be overruled."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(FineTuned, TokenizerOptions):
    """Write a fine-tuned checkpoint as SavedModel, ONNX or ExportedProgram, to be served without this toolkit.

    Examples:
        export --model_name_or_path runs/roberta --output served
        export --model_name_or_path runs/roberta/seed_123/checkpoint-best --format onnx --check dev.json --output onnx
        export --model_name_or_path my/model --tokenizer_name vocab.txt --hidden_act gelu_tanh --output served
    """

    output: Path
    """Directory to write; must not exist, or be empty."""
    format: Literal["saved_model", "onnx", "exported_program"] = "saved_model"
    """TensorFlow's SavedModel, ONNX, or PyTorch's ExportedProgram."""
    check: Path | None = None
    """Data file whose questions the model and its exported form both answer: nothing is written if they differ."""
    max_eval_samples: Count | None = None
    """With --check: only the first so many questions."""
    task: str | None = None
    """Task whose layout --check has, and of several whose head is exported (default: the checkpoint's)."""


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """Check data files question by question, and splits for text that they share.

    Examples:
        validate --task cmrc2018 train.json
        validate --task cmrc2018 --train train.json --dev dev.json
        validate --task cjrc dev.json --output findings.json
    """

    task: str
    """Task whose layout the files have, such as cmrc2018 (`tasks` lists them)."""
    files: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Files to check."""
    train: Path | None = None
    """Training data, to be compared with --dev; both are checked as well."""
    dev: Path | None = None
    """Development data, to be compared with --train."""
    output: Path | None = None
    """JSON file for everything, all ids included."""
