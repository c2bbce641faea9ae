"""Over real contexts and questions: the ids of each tokenizer's own program, and spans that cover every character.

The default tests read a sample; those marked soak read every text. What no piece covers is counted and named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from preprocess.align import align
from preprocess.readers.mrc import read_examples
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from tests.preprocess.test_bpe import spelled
from tests.preprocess.test_spiece import clean, program_ids
from tests.support.spans import cover

pytestmark = pytest.mark.realdata

FILES = (
    "cmrc2018/cmrc2018_trial.json",
    "cmrc2018/cmrc2018_dev.json",
    "cmrc2018/cmrc2018_train.json",
    "drcd/DRCD_dev.json",
    "cjrc/dev_ground_truth.json",
    "squad/xquad.zh.json",
    "squad/xquad.en.json",
    "squad/expmrc-squad-dev.json",
    "squad/squad-dev-v2.0-normans-only.json",
)
#: One text in so many is read by the default tests, of these files.
STEP, SAMPLED = 12, ("cmrc2018/cmrc2018_trial.json", "drcd/DRCD_dev.json", "squad/xquad.en.json")
#: Zero-width characters: SentencePiece's nmt_nfkc makes nothing or white space of them.
INVISIBLE = set("\u200b\ufeff\u200e\u200f")
#: Marks, and a dot above that NFKD makes a blank and a mark of: XLNet's program drops them.
ACCENTS = set("\u0325\u0361\u094d\u0e48\u0e49\u0e38\u05b4\u05b0\u05b8\u05bc\u02d9")
#: Marks of other scripts that only BERT's program drops: vowels, and the sign of a silent letter.
VOWELS = set("\u0e34\u0e35\u07aa\u0e4c")


def texts_of(data_dir: Path, name: str) -> list[str]:
    examples, _ = read_examples(data_dir / name, offset_unit="codepoint")
    return list(dict.fromkeys(text for example in examples for text in (example.context, example.question)))


@dataclass
class Case:
    """A tokenizer, its own program's ids of a text, and what its pieces spell of a slice."""

    tokenizer: Tokenizer
    ids: Callable[[list[str]], list[list[int]]]
    read: Callable[[str], str]
    spell: Callable[[str], str]
    dropped: set[str]


def metaspace(piece: str) -> str:
    return piece.replace("▁", " ").strip()


def xlnet(data_dir: Path, directory: Path) -> Case:
    model = data_dir / "vocab" / "xlnet-zh-spiece.model"
    engine = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return Case(
        load_tokenizer(model),
        lambda texts: [program_ids(engine, text, "xlnet") for text in texts],
        lambda text: metaspace(str(engine.normalize(clean(text, "xlnet")))),
        metaspace,
        INVISIBLE | ACCENTS,
    )


def unigram(data_dir: Path, directory: Path) -> Case:
    """The same pieces with XLM-R's rules, in a tokenizer.json as transformers writes it."""
    from transformers import AutoTokenizer

    load_tokenizer(data_dir / "vocab" / "xlnet-zh-spiece.model").save(directory / "model")
    AutoTokenizer.from_pretrained(directory / "model").save_pretrained(directory)
    (directory / "tokenizer_config.json").unlink()
    path = directory / "tokenizer.json"
    saved = json.loads(path.read_text("utf-8"))
    charsmap = next(step for step in saved["normalizer"]["normalizers"] if step["type"] == "Precompiled")
    path.write_text(json.dumps({**saved, "normalizer": charsmap}), "utf-8")
    tokenizer = load_tokenizer(path)
    engine = theirs(path)
    return Case(
        tokenizer,
        lambda texts: [encoded.ids for encoded in engine.encode_batch(texts, add_special_tokens=False)],
        lambda text: metaspace(engine.normalizer.normalize_str(text)),
        metaspace,
        INVISIBLE,
    )


def theirs(path: Path) -> Any:
    from tokenizers import Tokenizer as Engine

    return Engine.from_file(str(path))


def bpe(data_dir: Path, directory: Path) -> Case:
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    texts = texts_of(data_dir, "squad/xquad.en.json") + texts_of(data_dir, "squad/xquad.zh.json")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=6000, special_tokens=special, show_progress=False)
    trained.save_model(str(directory))
    return Case(
        load_tokenizer(directory),
        lambda texts: [encoded.ids for encoded in trained.encode_batch(texts, add_special_tokens=False)],
        lambda text: text.encode().decode("latin-1"),
        spelled,
        set(),
    )


def wordpiece(data_dir: Path, directory: Path) -> Case:
    from tokenizers import BertWordPieceTokenizer

    vocabulary = data_dir / "vocab" / "bert-base-chinese-vocab.txt"
    engine = BertWordPieceTokenizer(str(vocabulary))
    return Case(
        load_tokenizer(vocabulary),
        lambda texts: [encoded.ids for encoded in engine.encode_batch(texts, add_special_tokens=False)],
        lambda text: engine.normalize(text).strip(),
        lambda piece: piece.removeprefix("##"),
        INVISIBLE | ACCENTS | VOWELS,
    )


CASES = {"wordpiece": wordpiece, "xlnet": xlnet, "unigram": unigram, "bpe": bpe}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return CASES[request.param](data_dir, tmp_path_factory.mktemp(request.param))


def check(case: Case, texts: list[str]) -> str:
    """Check a file's texts; returns what was counted."""
    pieces = case.tokenizer.encode(texts)
    assert [part.tolist() for part in np.split(pieces.ids, pieces.splits[1:-1])] == case.ids(texts)
    found = cover(case.tokenizer, texts, case.read, case.spell)
    assert set(found.dropped) <= case.dropped
    # What a span of characters says is what its piece says, but for white space, of which spans hold none.
    assert all(not held for _, held in found.odd), found.odd[:5]
    return (
        f"{len(texts)} texts, {found.n_pieces} pieces, {found.n_empty} of them white space alone, "
        f"{found.shared.total()} characters in several pieces, {found.dropped.total()} in none"
    )


def test_pieces_of_a_sample_are_the_program_s_and_cover_it(case: Case, data_dir: Path) -> None:
    check(case, [text for name in SAMPLED for text in texts_of(data_dir, name)[::STEP]])


@pytest.mark.soak
@pytest.mark.parametrize("name", FILES)
def test_pieces_of_every_text_are_the_program_s_and_cover_it(case: Case, data_dir: Path, name: str) -> None:
    print(f"{case.tokenizer.kind} {name}: {check(case, texts_of(data_dir, name))}")


def test_so_many_answers_do_not_begin_and_end_with_a_piece_of_xlnet(data_dir: Path) -> None:
    tokenizer = load_tokenizer(data_dir / "vocab" / "xlnet-zh-spiece.model")
    examples, _ = read_examples(data_dir / "cmrc2018" / "cmrc2018_dev.json", offset_unit="utf16")
    contexts = {text: index for index, text in enumerate(dict.fromkeys(example.context for example in examples))}
    pieces = tokenizer.encode(list(contexts))
    answers = np.array(
        [
            (contexts[example.context], answer.char_start, answer.char_end)
            for example in examples
            for answer in example.answers
            if answer.located
        ]
    )
    found = align(pieces.spans, pieces.splits, *answers.T)
    assert (found.token_start >= 0).all() and 0.073 < found.widened.mean() < 0.0745
