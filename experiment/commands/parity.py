"""Both frameworks side by side: the same weights and batches, compared from the embeddings to the scores."""

from __future__ import annotations

from experiment.inputs.settings import read_settings, recall
from experiment.inputs.transfer import answering_head
from experiment.io.outputs import check_file
from experiment.io.terminal import terminal, warn
from experiment.options.flags import ParityOptions
from experiment.options.joint import task_name
from experiment.options.recipe import resolve_recipe, task_of
from experiment.parity.answers import Answers
from experiment.parity.compare import TOLERANCES, Comparison, StageRow
from experiment.parity.observe import FRAMEWORKS, observing
from experiment.parity.verdict import print_rows, report, verdict
from experiment.parity.windows import from_file, made_up
from experiment.training.finished import read_finetuned
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json


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
    checkpoint = read_finetuned(name, options.hidden_act, task_name(options)) if name is not None else None
    settings = read_settings(checkpoint.directory, task_name(options)) if checkpoint is not None else None
    recalled, notes = recall(settings, options)
    warn(notes)
    task = task_of(recalled)
    if checkpoint is not None:
        checkpoint = answering_head(checkpoint, settings)
    recipe = resolve_recipe(recalled, task, checkpoint.published if checkpoint is not None else None)
    answers: Answers | None
    if recalled.data_file is not None:
        job, answers = from_file(recalled, recipe, task, checkpoint, settings, recalled.data_file)
    else:
        job, answers = made_up(options, recipe, task, checkpoint)
    job.trainer["adam_epsilon"] = options.adam_epsilon  # no recipe's
    console = terminal()
    precision = recipe.precision
    comparison = Comparison(
        TOLERANCES[precision],
        job.config,
        job.head,
        job.trainer["learning_rate"],
        answers.judge if answers is not None else None,
    )
    rows: list[StageRow] = []
    with (
        console.status("starting both frameworks") as status,
        observing(FRAMEWORKS[0], job) as first,
        observing(FRAMEWORKS[1], job) as second,
    ):
        for stage in comparison.rows(first, second):
            rows.append(stage)
            status.update(f"{stage.stage}: {'ok' if stage.ok else 'FAIL'}")
    print_rows(console, rows, precision)
    if answers is not None:
        for framework, values in answers.scores.items():
            told = "  ".join(f"{metric} {value:.3f}" for metric, value in values.items())
            console.print(f"{framework:<12}{len(answers.data.examples)} questions  {told}")
    console.print(verdict(rows, precision))
    if options.json is not None:
        write_json(options.json, report(options, recipe, rows, answers))
    return 0 if all(stage.ok for stage in rows) else 1
