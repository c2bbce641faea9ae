"""Models with SentencePiece's or byte-level BPE's tokenizers are inspected, trained and answered with like others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiment.cli import main
from preprocess.tokenizers.base import load_tokenizer
from tests.experiment.conftest import Corpus, train_flags
from tests.support.vocabularies import train_bpe, train_spiece, write_unigram

CHARACTERS = "小猫住在北京。狗上海张三喜欢苹果，李四香蕉王五有本书赵六九支笔哪里？什么几"


def unigram(directory: Path) -> None:
    pieces = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>", "▁", *CHARACTERS, "<mask>")]
    for piece in pieces[4:-1]:
        piece[1] = -3.0
    write_unigram(directory, model={"type": "Unigram", "unk_id": 3, "vocab": pieces}, added_tokens=[])


#: Kind -> how its files are made, and what a window of it is laid out as, in a BERT.
KINDS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "tokenizer.json": (unigram, ["cls", "question", "sep", "sep", "context", "sep"]),
    "sentencepiece.bpe.model": (
        lambda path: train_spiece(path, "xlmr", [CHARACTERS]),
        ["cls", "question", "sep", "sep", "context", "sep"],
    ),
    "spiece.model": (
        lambda path: train_spiece(path, "albert", [CHARACTERS]),
        ["cls", "question", "sep", "context", "sep"],
    ),
    "merges.txt": (lambda path: train_bpe(path, 300), ["cls", "question", "sep", "sep", "context", "sep"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_trained_saved_and_answered_with(
    kind: str, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, order = KINDS[kind]
    (corpus.model / "vocab.txt").unlink()
    make(corpus.model)
    tokenizer = load_tokenizer(corpus.model)
    config = json.loads((corpus.model / "config.json").read_text("utf-8"))
    config |= {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 128}
    (corpus.model / "config.json").write_text(json.dumps(config), "utf-8")
    run = tmp_path / "run"
    flags = train_flags(corpus, run, "--seeds", "1", "--num_train_epochs", "1", "--max_seq_length", "128")
    assert main(flags) == 0
    best = run / "seed_1" / "checkpoint-best"
    assert load_tokenizer(best).fingerprint == tokenizer.fingerprint
    assert json.loads((best / "mrc_settings.json").read_text("utf-8"))["template"]["order"] == order
    report = json.loads((run / "data_report.json").read_text("utf-8"))
    assert report["train"]["encoding"]["target_span"] == 6 and "target_widened" in report["train"]["encoding"]
    capsys.readouterr()
    assert main(["inspect", "--model_name_or_path", str(best)]) == 0
    assert f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size} pieces" in capsys.readouterr().out
    flags = ["--test_file", str(corpus.data), "--output_dir", str(tmp_path / "answers")]
    assert main(["predict", "--task", "cmrc2018", "--model_name_or_path", str(best), *flags]) == 0
    trained = json.loads((run / "seed_1" / "predictions_dev.json").read_text("utf-8"))
    assert json.loads((tmp_path / "answers" / "predictions.json").read_text("utf-8")) == trained
    contexts = corpus.data.read_text("utf-8")
    assert all(text in contexts for text in trained.values())
