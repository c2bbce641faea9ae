"""Run directories with answers to questions of a file, as training leaves them: scored by the task's own metric."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from experiment.inputs.data import read_examples, scorer_of
from experiment.training.record import Record, seed_directory
from tasks.core.discovery import get_task

#: What would leave the text that it stands in, if anything could.
NASTY = "</script><script>window.broken=1</script><!-- <img src=x onerror='window.broken=1'> \"&amp;\u2028\u202e"


def write_data(path: Path, paragraphs, version="v1.0") -> Path:
    """Write a file in SQuAD's layout.

    Args:
        path: of the file.
        paragraphs: (context, [(id, question, [answer])]); the answers stand in the context.
        version: as the file names it.
    """
    articles = []
    for number, (context, questions) in enumerate(paragraphs):
        qas = [
            {
                "id": id,
                "question": question,
                "answers": [{"text": answer, "answer_start": context.index(answer)} for answer in answers],
            }
            for id, question, answers in questions
        ]
        articles.append({"title": f"t{number}", "paragraphs": [{"context": context, "qas": qas}]})
    path.write_text(json.dumps({"version": version, "data": articles}), encoding="utf-8")
    return path


def candidates(*pairs):
    """Return an n-best list of (text, probability); logits are in the order of the list."""
    return [
        {"text": text, "probability": probability, "start_logit": 5.0 - place, "end_logit": 5.0 - place}
        for place, (text, probability) in enumerate(pairs)
    ]


def write_run(run: Path, task_name: str, data: Path, seeds, **changes) -> Path:
    """Write a run; each seed is {question id: n-best list}, whose first text is the answer."""
    task = get_task(task_name)
    examples, report = read_examples(task, data)
    scorer = scorer_of(task, examples, report)
    for seed, nbest in enumerate(seeds, start=1):
        answers = {id: listed[0]["text"] for id, listed in nbest.items()}
        score = scorer(answers)
        values = dict(score.values)
        facts = {
            "task": task_name,
            "task_version": task.version,
            "model": run.name,
            "status": "finished",
            "selection": list(task.selection),
            "config": {"validation_file": str(data), "max_seq_length": 512, "seeds": [*range(1, len(seeds) + 1)]},
            "hashes": {"dev_file": hashlib.sha256(data.read_bytes()).hexdigest()},
            "versions": {"python": "3.11"},
            "decode": {"max_answer_length": 50, "null_score_diff_threshold": 0.0},
            "scores": {"dev": values},
            "evaluations": [
                {
                    "step": 5,
                    "epoch": 1.0,
                    "loss": 2.0 + seed,
                    "dev": {name: value / 2 for name, value in values.items()},
                },
                {"step": 10, "epoch": 2.0, "loss": 1.0 + seed, "dev": values},
            ],
            "n_steps": 10,
            "step": 10,
            "device": "CPU, 2 threads",
            "wall_s": 75.0,
        }
        place = seed_directory(run, seed)
        place.mkdir(parents=True)
        Record(seed=seed, **facts | changes).write(place)
        dumped = {
            "predictions_dev": answers,
            "nbest_predictions_dev": nbest,
            "scores_dev": {"values": values, "per_example": score.per_example},
        }
        for name, value in dumped.items():
            (place / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return run


#: An emoji takes two of JavaScript's characters; what follows it is marked at the right place only if that is minded.
CONTEXT = "😀小猫住在北京。小狗住在上海。"
PARAGRAPHS = [
    (CONTEXT, [("Q_1", "小猫住在哪里？", ["北京"]), ("Q_2", "小狗住在哪里？", ["上海"])]),
    (f"张三喜欢苹果{NASTY}", [("Q_3", f"张三喜欢什么？{NASTY}", ["苹果"])]),
]
ANSWERS = {
    "Q_1": candidates(("北京", 0.9), ("住在北京", 0.1)),
    "Q_2": candidates(("住在上海", 0.6), ("上海", 0.4)),
    "Q_3": candidates((f"苹果{NASTY}", 0.7), ("张三", 0.3)),
}
BETTER = {**ANSWERS, "Q_2": candidates(("上海", 0.8), ("北京", 0.2))}
