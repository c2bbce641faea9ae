"""Run directories as training leaves them, without any training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from experiment.report.measured import entries_of_run
from experiment.training.record import Record, seed_directory

N_CONTEXTS, PER_CONTEXT = 30, 4
IDS = [f"DEV_{c}_QUERY_{q}" for c in range(N_CONTEXTS) for q in range(PER_CONTEXT)]


@dataclass(frozen=True)
class Runs:
    """Makes run directories in a directory."""

    directory: Path
    made: list[Path] = field(default_factory=list)

    def make(self, name, em_by_seed, **changes):
        """Write a run whose seeds answer a share of the questions exactly; F1 is halfway between that and 1.

        Args:
            name: of the directory; also of the model, unless `changes` say another.
            em_by_seed: share of right answers of each seed.
            changes: of the Records; "split" for another than dev, "answers" for what the predictions are, "last" to
                draw the right answers from the end of the questions.
        """
        run = self.directory / name
        changes = dict(changes)
        split, text, last = changes.pop("split", "dev"), changes.pop("answers", None), changes.pop("last", False)
        for seed, share in enumerate(em_by_seed, start=1):
            right = np.random.default_rng(seed).permutation(np.arange(len(IDS)) < round(share * len(IDS)))
            if last:
                right = right[::-1]
            scores = {id: {"em": float(r), "f1": 0.5 + r / 2} for id, r in zip(IDS, right, strict=True)}
            values = {m: 100 * sum(s[m] for s in scores.values()) / len(IDS) for m in ("em", "f1")}
            facts = {"task": "cmrc2018", "task_version": "1", "model": name, "status": "finished", "versions": {}}
            facts |= {"selection": ["f1", "em"], "hashes": {"dev_file": "da7a" * 16, "test_file": "7e57" * 16}}
            facts |= {"config": {"max_seq_length": 512}, "decode": {"max_answer_length": 50}}
            facts |= {"scores": {split: values}, "evaluations": [{"step": 9, "dev": values}]}
            record = Record(seed=seed, **facts | changes)
            place = seed_directory(run, seed)
            place.mkdir(parents=True)
            record.write(place)
            score = {"values": values, "per_example": scores}
            (place / f"scores_{split}.json").write_text(json.dumps(score), encoding="utf-8")
            predictions = {id: text if text is not None else f"{id} {seed}" for id in IDS}
            (place / f"predictions_{split}.json").write_text(json.dumps(predictions), encoding="utf-8")
        self.made.append(run)
        return run


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def entries(*runs):
    return [entry for run in runs for entry in entries_of_run(run)]


def cells(table):
    """Return {row: {title with its protocol's number: cell}}."""
    titles = [f"{cell.text} {' '.join(cell.notes)}".strip() for cell in table.header]
    return {row[0].text: dict(zip(titles, row, strict=True)) for row in table.rows}
