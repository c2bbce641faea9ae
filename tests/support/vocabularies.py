"""Small vocabularies of the kinds that published models have, made by hand or trained on a few lines."""

from __future__ import annotations

import json
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
