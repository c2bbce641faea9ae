"""The published files of rows: nothing is dropped, and entities come back from the pieces of real tokenizers."""

from __future__ import annotations

from collections import Counter

import pytest

from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tests.tasks.test_tagging import _as_learned

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    ("name", "file", "n", "n_of_first_label"),
    [
        ("chnsenticorp", "chnsenticorp/dev.tsv", 1200, 607),
        ("chnsenticorp", "chnsenticorp/train.tsv.gz", 9600, None),
        ("chnsenticorp", "chnsenticorp/test.tsv", 1200, 592),
        ("xnli", "xnli-zh/dev.tsv", 2490, 830),
        ("xnli", "xnli-zh/test.tsv", 5010, 1670),
        ("thucnews", "thucnews/dev.txt", 10000, 1000),
        ("thucnews", "thucnews/test.txt", 10000, 1000),
        ("msra_ner", "msra-ner/dev.tsv", 2318, None),
        ("msra_ner", "msra-ner/test.tsv", 4636, None),
    ],
)
def test_every_row_of_the_published_files_is_read(name, file, n, n_of_first_label, data_dir):
    task, path = get_task(name), data_dir / "extra" / file
    examples, report = task.read(path)
    assert len(examples) == n == report.n_questions and not report.dropped
    assert set(report.notes) <= {"context_unstripped", "question_unstripped"} and all(
        example.labelled for example in examples
    )
    if n_of_first_label is not None:
        labels = Counter(example.answers[0].text for example in examples)
        assert labels[task.problem.labels[0]] == n_of_first_label
    assert len(task.parts(path.read_bytes(), path).ties) == n
    if not path.name.endswith(".gz"):  # packed again since
        assert report.sha256 in {source.sha256 for source in task.sources}


def test_all_entities_of_msra_come_back_from_berts_pieces(data_dir):
    task = get_task("msra_ner")
    examples, _ = task.read(data_dir / "extra" / "msra-ner" / "dev.tsv")
    vocabulary = (data_dir / "vocab" / "bert-base-chinese-vocab.txt").read_text(encoding="utf-8").splitlines()
    targets = [next(iter(task.targets(example))) for example in examples]
    features = task.problem.encode(
        examples, targets, WordPieceTokenizer(vocabulary), max_seq_length=64, doc_stride=24
    )
    assert features.meta["counts"]["context_split"] > 400
    answers = task.problem.best_answers(examples, features, _as_learned(features, n_tags=7), DecodeOptions())
    assert task.score(examples, answers).values == {"f1": 100.0, "precision": 100.0, "recall": 100.0}
