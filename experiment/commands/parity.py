"""Both frameworks side by side: the same weights and batches, compared from the embeddings to the scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from experiment.inputs.data import Data, encode, first_targets, read_examples
from experiment.inputs.model import check_limits, from_checkpoint, from_scratch
from experiment.inputs.settings import Settings, about_tokenizer, read_settings, recall
from experiment.io.outputs import check_file
from experiment.io.tables import aligned
from experiment.io.terminal import terminal, warn
from experiment.options.flags import OptimizerOptions, ParityOptions
from experiment.options.recipe import OptimizerRecipe, resolve_recipe, task_of
from experiment.parity.compare import TOLERANCES, Comparison, Part, Row, Tolerances, row
from experiment.parity.observe import Job, observing
from experiment.training.record import versions
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from preprocess.batch import collate, epoch_batches, eval_batches
from preprocess.types import NO_TARGET, Batch, HeadSpec, Outputs
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.locate import locate
from pretrained_configs.published import read_config
from tasks.core.prediction import DecodeOptions
from tasks.core.task import Task

FRAMEWORKS = ("pytorch", "tensorflow")
#: Length of random windows where none is asked for, in tokens.
_RANDOM_LENGTH = 128
_NUMBERS = ("max abs", "max relative", "tolerance")
_HEADER = ("stage", "worst parameter", *_NUMBERS, "")


@dataclass
class Answers:
    """Decodes what both frameworks output for a data file, and compares texts and scores.

    Args:
        task: decodes and scores.
        data: the questions and their windows.
        options: of the decoder.
        tolerances: for the precision that the logits were computed in.
        scores: framework -> metric -> percent, once judged; empty if the questions have no answers.
    """

    task: Task
    data: Data
    options: DecodeOptions
    tolerances: Tolerances
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def judge(self, first: list[Outputs], second: list[Outputs]) -> Iterator[Row]:
        """Yield the rows of the texts and of the scores."""
        examples, features = self.data.examples, self.data.features
        found = [self.task.problem.decode(examples, features, outputs, self.options) for outputs in (first, second)]
        ours, theirs = ({id: prediction.text for id, prediction in one.items()} for one in found)
        different = [id for id in ours if ours[id] != theirs[id]]
        allowed = float(math.floor(self.tolerances.answers * len(ours)))
        example = next(iter(different), "")
        yield row("predictions", [Part(example, float(len(different)), float(len(ours)), allowed)])
        if any(example.answers for example in examples):
            scores = [dict(self.task.score(examples, answers).values) for answers in (ours, theirs)]
            self.scores.update(zip(FRAMEWORKS, scores, strict=True))
            yield row("scores", [self._score(name, *(values[name] for values in scores)) for name in scores[0]])

    def _score(self, name: str, ours: float, theirs: float) -> Part:
        return Part(name, abs(ours - theirs), max(abs(ours), abs(theirs)), self.tolerances.scores)


def parity(options: ParityOptions) -> int:
    """Compare the frameworks and print the table.

    Returns:
        1 if any stage differs by more than its tolerance, else 0.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
        ChildProcessError: if one of the two processes died.
    """
    check_file("--json", options.json)
    name = options.model_name_or_path
    if (name is None) == (options.config_name is None):
        raise UsageError("give either --model_name_or_path or --config_name (fresh weights)")
    checkpoint = read_checkpoint(name, options.hidden_act) if name is not None else None
    settings = read_settings(checkpoint.directory) if checkpoint is not None else None
    recalled, notes = recall(settings, options)
    warn(notes)
    task = task_of(recalled)
    recipe = resolve_recipe(recalled, task, checkpoint.published if checkpoint is not None else None)
    answers: Answers | None
    if recalled.data_file is not None:
        job, answers = _prepare(recalled, recipe, task, checkpoint, settings, recalled.data_file)
    else:
        job, answers = _random(options, recipe, task, checkpoint)
    job.trainer["adam_epsilon"] = options.adam_epsilon  # no recipe's
    console = terminal()
    precision = recipe.precision
    comparison = Comparison(
        TOLERANCES[precision],
        job.config,
        job.trainer["learning_rate"],
        answers.judge if answers is not None else None,
    )
    rows: list[Row] = []
    with (
        console.status("starting both frameworks") as status,
        observing(FRAMEWORKS[0], job) as first,
        observing(FRAMEWORKS[1], job) as second,
    ):
        for one in comparison.rows(first, second):
            rows.append(one)
            status.update(f"{one.stage}: {'ok' if one.ok else 'FAIL'}")
    _print(console, rows, precision)
    if answers is not None:
        for framework, values in answers.scores.items():
            told = "  ".join(f"{metric} {value:.3f}" for metric, value in values.items())
            console.print(f"{framework:<12}{len(answers.data.examples)} questions  {told}")
    different = [one for one in rows if not one.ok]
    console.print(_verdict(rows, precision))
    if options.json is not None:
        write_json(options.json, _report(options, recipe, rows, answers))
    return 1 if different else 0


def _prepare(
    options: ParityOptions,
    recipe: OptimizerRecipe,
    task: Task,
    checkpoint: Checkpoint | None,
    settings: Settings | None,
    data_file: Path,
) -> tuple[Job, Answers]:
    """Take windows and questions from the data file."""
    if checkpoint is not None:
        source = from_checkpoint(checkpoint, options)
    else:
        source = from_scratch(str(options.config_name), options)
    warn([*about_tokenizer(settings, source.tokenizer), *source.found.warnings])
    check_limits(recipe, source.name, source.config, source.published)
    examples, _ = read_examples(task, data_file, options.max_eval_samples)
    texts = task, examples, first_targets(task, examples), source.tokenizer
    data = encode(*texts, recipe, options.feature_cache_dir, template=source.template)
    size, seed = options.per_device_train_batch_size, options.seed
    together = task.problem.head.whole_groups
    orders = (epoch_batches(data.features, size, seed=seed, epoch=epoch, whole_groups=together) for epoch in count())
    steps = islice(chain.from_iterable(orders), options.steps)
    questions = eval_batches(data.features, recipe.per_device_eval_batch_size)
    job = _job(options, recipe, task, source.config, checkpoint, [collate(data.features, rows) for rows in steps])
    job = replace(job, eval_batches=[collate(data.features, rows) for rows in questions])
    return job, Answers(task, data, recipe.decode, TOLERANCES[recipe.precision])


def _random(
    options: ParityOptions, recipe: OptimizerRecipe, task: Task, checkpoint: Checkpoint | None
) -> tuple[Job, None]:
    """Make up windows; no tokenizer is needed."""
    if checkpoint is not None:
        config = checkpoint.config
    else:
        config = read_config(locate(str(options.config_name), weights=False).path, options.hidden_act)
    limit = config.family.usable_length(config)
    length = options.max_seq_length or min(_RANDOM_LENGTH, limit)
    if length > limit:
        raise UsageError(f"--max_seq_length {length} > max_position_embeddings {limit}; use at most {limit}")
    size = options.per_device_train_batch_size
    random = np.random.Generator(np.random.Philox(options.seed))
    batches = [random_batch(config, task.problem.head, (size, length), random) for _ in range(options.steps)]
    return _job(options, recipe, task, config, checkpoint, batches), None


def random_batch(config: ModelConfig, head: HeadSpec, shape: tuple[int, int], random: np.random.Generator) -> Batch:
    """Draw windows of random lengths with random ids and targets.

    Args:
        config: whose vocabulary to draw from.
        head: whose targets to draw.
        shape: windows, and the length L that they are padded to; they have L / 2 to L tokens.
        random: generator.
    """
    n, length = shape
    lengths = random.integers((length + 1) // 2, length, n, endpoint=True)
    column = np.arange(length)[None]
    mask = column < lengths[:, None]
    types = mask & (column >= lengths[:, None] // 4) & (config.type_vocab_size > 1)
    group = np.arange(n) // 2 if head.whole_groups else np.arange(n)
    targets: dict[str, NDArray[np.integer]] = {}
    for outputs in head.projections.values():
        # The outputs of a projection in order, as a span's start and end.
        positions = np.sort(random.integers(0, lengths[:, None], (n, len(outputs))), axis=1)
        for i, output in enumerate(outputs):
            targets[output.name] = {
                "position": positions[:, i],
                "class": random.integers(NO_TARGET, output.size, n),
                "tag": np.where(mask, random.integers(NO_TARGET, output.size, mask.shape), NO_TARGET),
                "choice": np.diff(group, prepend=-1),
            }[output.loss]
    inputs = {
        "input_ids": np.where(mask, random.integers(0, config.vocab_size, mask.shape), 0),
        "attention_mask": mask,
        "token_type_ids": types,
    }
    columns = [{name: column.astype(np.int32) for name, column in part.items()} for part in (inputs, targets)]
    return Batch(np.arange(n, dtype=np.int32), group.astype(np.int32), columns[0], columns[1])


def _job(
    options: ParityOptions,
    recipe: OptimizerRecipe,
    task: Task,
    config: ModelConfig,
    checkpoint: Checkpoint | None,
    batches: list[Batch],
) -> Job:
    trainer = {option.name: getattr(recipe, option.name) for option in fields(OptimizerOptions)}
    config = replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return Job(
        config=config,
        head=task.problem.head,
        checkpoint=replace(checkpoint, config=config) if checkpoint is not None else None,
        batches=batches,
        eval_batches=[],
        trainer={**trainer, "precision": recipe.precision},
        device=options.device,
        seed=options.seed,
    )


def _print(console: Console, rows: Sequence[Row], precision: str) -> None:
    console.print(f"{' and '.join(FRAMEWORKS)}, {precision}")
    cells = []
    for stage in rows:
        numbers = (f"{number:.2e}" for number in (stage.max_abs, stage.relative, stage.tolerance))
        cells.append([stage.stage, stage.worst, *numbers, "ok" if stage.ok else "FAIL"])
    header, *lines = aligned(_HEADER, cells, right=_NUMBERS)
    console.print(header)
    first = next((stage for stage in rows if not stage.ok), None)
    for stage, line in zip(rows, lines, strict=True):
        console.print(line, style="bold red" if stage is first else None)


def _verdict(rows: Sequence[Row], precision: str) -> str:
    different = [one for one in rows if not one.ok]
    if not different:
        return f"no difference beyond the tolerances of {precision} at any of {len(rows)} stages"
    first = different[0]
    at = f" ({first.worst})" if first.worst else ""
    return (
        f"first difference: {first.stage}{at}, {first.max_abs:.2e} where {first.tolerance:.2e} is allowed; "
        f"{len(different)} of {len(rows)} stages differ"
    )


def _report(
    options: ParityOptions, recipe: OptimizerRecipe, rows: Sequence[Row], answers: Answers | None
) -> dict[str, object]:
    first = next((one.stage for one in rows if not one.ok), None)
    return {
        "model": options.model_name_or_path or options.config_name,
        "task": options.task,
        "precision": recipe.precision,
        "steps": options.steps,
        "seed": options.seed,
        "device": options.device,
        "versions": versions(),
        "ok": first is None,
        "first_difference": first,
        "scores": answers.scores if answers is not None else {},
        "rows": [{name: _finite(value) for name, value in asdict(one).items()} for one in rows],
    }


def _finite(value: object) -> object:
    """JSON has no NaN and no infinity: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
