"""Small vocabularies of the kinds that published models have, made by hand or trained on a few lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: XLM-R's special tokens, in its order.
XLMR_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
UNIGRAM = [
    *(("▁", -3.0), ("▁我", -4.0), ("我", -4.5), ("爱", -4.0), ("我爱", -3.5), ("北京", -3.0), ("北", -5.0)),
    *(
        ("京", -5.0),
        ("...", -4.0),
        ("。", -4.0),
        (",", -4.0),
        ("▁new", -3.0),
        ("new", -4.0),
        ("s", -4.0),
        ("S", -4.0),
    ),
    *(("▁a", -4.0), ("a", -4.0), ("b", -4.0), ("m", -5.0), ("2", -5.0), ("fi", -5.0), ("カ", -5.0), ("ガ", -5.0)),
]


def unigram_json(**changes: Any) -> dict[str, Any]:
    """Return the content of a tokenizer.json like XLM-R's, with some of its parts changed."""
    vocab = [*([token, 0.0] for token in XLMR_SPECIALS), *(list(piece) for piece in UNIGRAM), ["<mask>", 0.0]]
    roles = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    special = [(0, "<s>"), (1, "<pad>"), (2, "</s>"), (3, "<unk>"), (len(vocab) - 1, "<mask>")]
    added = [{"id": id, "content": token, "lstrip": token == "<mask>", **roles} for id, token in special]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}

    def parts(*names: str) -> list[dict[str, Any]]:
        return [
            {"Sequence": {"id": name, "type_id": 0}} if name in "AB" else {"SpecialToken": {"id": name, "type_id": 0}}
            for name in names
        ]

    values = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": parts("<s>", "A", "</s>"),
            "pair": parts("<s>", "A", "</s>", "</s>", "B", "</s>"),
            "special_tokens": {
                token: {"id": token, "ids": [id], "tokens": [token]} for token, id in (("<s>", 0), ("</s>", 2))
            },
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }
    return {**values, **changes}


def write_unigram(directory: Path, **changes: Any) -> Path:
    """Write a tokenizer.json like XLM-R's into a directory and return that."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps(unigram_json(**changes)), "utf-8")
    return directory


#: What the small models below are trained on: enough for a few hundred pieces.
LINES = [
    "《战国无双3》是由光荣和ω-force开发的战国无双系列的正统第三续作。",
    "本作以三大故事为主轴，分别是以武田信玄等人为主的《关东三国志》、织田信长等人为主的《战国三杰》。",
    "战国史模式主打接近真实历史的故事，有5个主要的时间线：1582年、1600年……（见注）",
    "The Normans (Norman: Nourmands) were the people who in the 10th and 11th centuries gave their name to Normandy.",
    'In 1,066 they won 12,345 battles, "it is said", and lost 2,000, 3 of which were near the river\'s mouth?',
    "北京市在1949年成为首都，人口2,154万，面积16,410平方公里。",
]
#: Special pieces of each program's models, after <unk>, <s> and </s>.
SPIECE_SYMBOLS = {
    "xlnet": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"],
    "albert": ["<pad>", "[CLS]", "[SEP]", "[MASK]"],
    "xlmr": [],
}


def train_spiece(directory: Path, program: str, lines: Sequence[str] = LINES, **changes: Any) -> Path:
    """Train a small SentencePiece model as a program's authors did, and return its path."""
    import sentencepiece

    directory.mkdir(parents=True, exist_ok=True)
    name = "sentencepiece.bpe.model" if program == "xlmr" else "spiece.model"
    settings = {
        "vocab_size": 160,
        "hard_vocab_limit": False,
        "model_type": "unigram",
        "character_coverage": 1.0,
        "normalization_rule_name": "nmt_nfkc",
        "control_symbols": SPIECE_SYMBOLS[program],
        "minloglevel": 2,
        "num_threads": 1,
        "pad_id": -1,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*lines] * 3), model_prefix=str(directory / "trained"), **{**settings, **changes}
    )
    (directory / "trained.vocab").unlink()
    return (directory / "trained.model").rename(directory / name)


def train_bpe(directory: Path, vocab_size: int = 400) -> Path:
    """Train a small byte-level BPE as RoBERTa's: vocab.json and merges.txt in a directory, which is returned."""
    from tokenizers import ByteLevelBPETokenizer

    directory.mkdir(parents=True, exist_ok=True)
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(LINES, vocab_size=vocab_size, special_tokens=special, show_progress=False)
    trained.save_model(str(directory))
    return directory
