"""Answers of a language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiment.asking.ask import ask_all, check_same, totals
from experiment.asking.endpoint import Endpoint
from experiment.asking.extraction import REASONS, VERSION, Extracted, extract
from experiment.asking.journal import FILE_NAME, Journal, open_journal
from experiment.asking.prompts import Prompt, read_prompt
from experiment.inputs.data import read_examples
from experiment.io.outputs import check_directory
from experiment.io.predictions import write_answers
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.answers import AskLlmOptions
from experiment.options.recipe import task_of
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.types import Example
from tasks.core.task import Task

_DETAILS = "extractions.json"
_FIELDS = {"messages", "model", "stream", "n"}


def ask_llm(options: AskLlmOptions) -> dict[str, str]:
    """Ask every question, and write predictions that `evaluate` and `leaderboard --predictions` read.

    Raises:
        UsageError, DataError: for options and files that can't be used, or if the endpoint gives no replies.
    """
    check_directory("--output_dir", options.output_dir, (FILE_NAME, _DETAILS, "predictions.json", "protocol.json"))
    task = task_of(options)
    prompt = read_prompt(task, options.prompt)
    endpoint = Endpoint(
        options.base_url,
        options.api_key_env,
        timeout_s=options.timeout,
        max_retries=options.max_retries,
        retry_wait_s=options.retry_wait,
    )
    examples, report = read_examples(task, options.test_file, options.max_eval_samples)
    if not examples:
        raise DataError(f"{report.file}: holds no question; give a file with questions")
    parameters = _parameters(options)
    bodies = {example.id: {**parameters, "messages": prompt.messages(example)} for example in examples}
    console = terminal()
    warn(endpoint.warnings)
    if report.dropped:
        console.print("\n".join(report.lines()))
    begun = time.perf_counter()
    with open_journal(options.output_dir) as journal, Bars(console) as bars:
        check_same(journal, bodies)
        known = bodies.keys() & journal.entries.keys()
        refused = {id for id in known if journal.entries[id]["error"]}
        kept = known - refused if options.retry_refused else known
        to_do = {id: body for id, body in bodies.items() if id not in kept}
        if known:
            again = "" if options.retry_refused else "; --retry_refused asks them again"
            said = f", {len(refused)} were refused{again}" if refused else ""
            console.print(f"{len(known - refused)} of {len(bodies)} questions have their reply{said}")
        with bars.counting("questions", len(bodies), done=len(bodies) - len(to_do)) as advance:
            n_asked = ask_all(endpoint, to_do, journal, options.concurrency, advance)
        found = _extracted(examples, journal, prompt)
        answers = {id: one.text for id, one in found.items() if one.text is not None}
        protocol = _protocol(options, task, prompt, parameters, [journal.entries[id] for id in bodies], found)
        protocol |= {"base_url": endpoint.base_url, "data_sha256": report.sha256}
        protocol |= {"n_asked_last": n_asked, "wall_s_last": round(time.perf_counter() - begun, 3)}
        write_json(options.output_dir / _DETAILS, {id: asdict(one) for id, one in found.items()})
        write_answers(task, examples, options.output_dir, answers, protocol)
    for line in _lines(protocol):
        console.print(line)
    console.print(f"{len(answers)} answers written to {options.output_dir}")
    return answers


def _parameters(options: AskLlmOptions) -> dict[str, Any]:
    """Return the fields of every request but the messages."""
    try:
        extra = json.loads(options.extra_body) if options.extra_body is not None else {}
    except ValueError as error:
        raise UsageError(f'--extra_body: not JSON ({error}); give an object such as {{"seed": 1}}') from None
    if not isinstance(extra, dict) or _FIELDS & extra.keys():
        raise UsageError(f"--extra_body: a JSON object without {', '.join(sorted(_FIELDS))} was expected")
    fields = {"model": options.model_name, "temperature": options.temperature, "max_tokens": options.max_tokens}
    return {name: value for name, value in {**fields, **extra}.items() if value is not None}


def _extracted(examples: Sequence[Example], journal: Journal, prompt: Prompt) -> dict[str, Extracted]:
    found = {}
    for example in examples:
        entry = journal.entries[example.id]
        found[example.id] = extract(entry["reply"], example.context, prompt.replies)
    return found


def _protocol(
    options: AskLlmOptions,
    task: Task,
    prompt: Prompt,
    parameters: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    found: Mapping[str, Extracted],
) -> dict[str, Any]:
    """Return all that is needed to trust or repeat the answers."""
    counts = Counter(one.how for one in found.values())
    tokens = totals(entries)
    settings = ", ".join(f"{name} {value}" for name, value in parameters.items() if name != "model")
    return {
        "protocol": f"asked with the prompt {prompt.name} ({prompt.sha256[:8]}), {settings}; extraction {VERSION}",
        "task": task.name,
        "task_version": task.version,
        "model": options.model_name,
        "models_that_answered": sorted({entry["model"] for entry in entries if entry.get("model")}),
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "extraction_version": VERSION,
        "parameters": dict(parameters),
        "n_questions": len(entries),
        "n_by_extraction": {how: counts[how] for how in REASONS},
        "n_refused": sum(bool(entry["error"]) for entry in entries),
        "n_cut_off": sum(entry.get("finish_reason") == "length" for entry in entries),
        **tokens,
        "cost": _cost(options, tokens),
        "prices_per_million": {"input": options.price_input, "output": options.price_output},
        "seconds_per_reply": sum(entry.get("seconds", 0.0) for entry in entries) / len(entries),
    }


def _cost(options: AskLlmOptions, tokens: Mapping[str, int]) -> float | None:
    if options.price_input is None and options.price_output is None:
        return None
    of_prompts = tokens["prompt_tokens"] * (options.price_input or 0.0)
    return (of_prompts + tokens["completion_tokens"] * (options.price_output or 0.0)) / 1e6


def _lines(protocol: Mapping[str, Any]) -> list[str]:
    lines = [f"{n:6d}  {how}: {REASONS[how]}" for how, n in protocol["n_by_extraction"].items() if n]
    if protocol["n_refused"]:
        lines.append(f"{protocol['n_refused']:6d}  refused by the server; without an answer, and so scored as wrong")
    if protocol["n_cut_off"]:
        lines.append(f"{protocol['n_cut_off']:6d}  replies were cut off; --max_tokens raises that")
    tokens = f"{protocol['prompt_tokens']} tokens of prompts, {protocol['completion_tokens']} of replies"
    cost = f", {protocol['cost']:.4f} in the currency of the prices" if protocol["cost"] is not None else ""
    return [*lines, tokens + cost]
