"""The conversion over the published DRCD questions, and against what the original programs made of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from preprocess.readers.mrc import read_examples
from preprocess.text.offsets import MappedText
from preprocess.text.opencc import opencc_transform
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import FeatureSet
from tests.support.values import encode

#: The original makes these words of their own; BERT's tokenizer keeps them inside a word (docs/data.md).
PRE_SPLIT = set("～─￥")


@pytest.mark.golden
def test_opencc_gives_the_recorded_text(golden_dir: Path) -> None:
    cases = json.loads((golden_dir / "features" / "drcd_langconv_vs_opencc.json").read_text("utf-8"))
    transform = opencc_transform("t2s")
    assert transform is not None and cases
    for case in cases:
        assert transform.convert(case["text"]) == case["opencc_t2s"], case["id"]
        assert case["opencc_t2s"] != case["langconv"]


class Recorded:
    """The text that the original's own converter gave, which keeps every place."""

    name = "recorded"

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def __call__(self, text: str) -> MappedText:
        start = np.arange(len(text), dtype=np.int32)
        return MappedText(self._texts[text], start, start + 1)


def refill(original: str, tokens: list[str]) -> str:
    """Return joined tokens with the blanks that the original has between them."""
    characters = iter("".join(tokens))
    text = "".join(c if c in " \t\n\r" else next(characters) for c in original)
    assert next(characters, None) is None
    return text


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("length", "stride"), [(128, 64), (512, 128)])
def test_drcd_windows_equal_the_original_program(
    data_dir: Path, golden_dir: Path, length: int, stride: int, mode: str
) -> None:
    folder = golden_dir / "features"
    with gzip.open(folder / f"drcd_a.len{length}.stride{stride}.{mode}.json.gz", "rt", encoding="utf-8") as file:
        golden = json.load(file)
    examples, _ = read_examples(folder / "drcd_a.input.json", offset_unit="codepoint")
    assert [entry["qid"] for entry in golden["examples"]] == [example.id for example in examples]
    tokenizer = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt", do_lower_case=True)
    recorded = {}
    for example, entry in zip(examples, golden["examples"], strict=True):
        assert refill(example.context, entry["ori_doc_tokens"]) == example.context
        recorded[example.context] = refill(example.context, entry["doc_tokens"])
        recorded[example.question] = entry["question"]
    transform = opencc_transform("t2s")
    assert transform is not None
    converts_alike = {
        index
        for index, example in enumerate(examples)
        if all(transform.convert(text) == recorded[text] for text in (example.context, example.question))
    }
    targets = [example.answers[0] for example in examples]
    expected: dict[int, list[dict[str, object]]] = {}
    for feature in golden["features"]:
        expected.setdefault(feature["example_index"], []).append(feature)

    for used, chosen in ((Recorded(recorded), set(range(len(examples)))), (transform, converts_alike)):
        features = encode(examples, targets, tokenizer, max_seq_length=length, doc_stride=stride, transform=used)
        split, relabelled, n_equal = set(), set(), 0
        for index in sorted(chosen):
            windows = np.flatnonzero(features.example_index == index)
            ours = [row(features, int(window)) for window in windows]
            if ours != [{key: feature[key] for key in ours[0]} for feature in expected[index]]:
                split.add(examples[index].id)
                assert PRE_SPLIT & set(examples[index].context + examples[index].question)
                continue
            n_equal += len(ours)
            labels = np.stack([features.targets["start"][windows], features.targets["end"][windows]], axis=1).tolist()
            theirs = [[feature.get("start_position"), feature.get("end_position")] for feature in expected[index]]
            if mode == "train" and labels != theirs:
                relabelled.add(examples[index].id)
                # "8" of "80%": the original labels the whole word, ours the piece that holds the answer.
                assert all(a >= b and c <= d for (a, c), (b, d) in zip(labels, theirs, strict=True))
        print(f"{used.name} {length}/{stride} {mode}: {len(chosen)} questions, {n_equal} windows equal, not {split}")
        assert len(split) <= 5 and len(relabelled) <= 1 and n_equal


def row(features: FeatureSet, window: int) -> dict[str, object]:
    start, end = features.row_splits[window : window + 2]
    return {
        "input_ids": features.input_ids[start:end].tolist(),
        "doc_offset": int(features.doc_offset[window]),
        "max_context_true_range": features.max_context[window].tolist(),
    }


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("config", "n_changed", "n_cut"), [("t2s", 0, 4), ("tw2s", 0, 6), ("tw2sp", 74, 6)], ids=["t2s", "tw2s", "tw2sp"]
)
def test_every_drcd_answer_keeps_its_place(data_dir: Path, config: str, n_changed: int, n_cut: int) -> None:
    examples, _ = read_examples(data_dir / "drcd" / "DRCD_dev.json", offset_unit="codepoint")
    transform = opencc_transform(config)
    assert transform is not None
    mapped = {context: transform(context) for context in {example.context for example in examples}}
    assert sum(m.starts.tolist() != list(range(len(context))) for context, m in mapped.items()) == n_changed
    assert all(config == "tw2sp" or (m.ends - m.starts == 1).all() for m in mapped.values())
    assert sum(len(m.text) != len(context) for context, m in mapped.items()) == n_changed
    n_answers, misplaced, cut, unmarked = 0, [], [], []
    for example in examples:
        whole = mapped[example.context]
        for answer in example.answers:
            n_answers += 1
            part = np.flatnonzero((whole.ends > answer.char_start) & (whole.starts < answer.char_end))
            low, high = int(part[0]), int(part[-1]) + 1
            derived = whole.text[low:high]
            place = (int(whole.starts[low]), int(whole.ends[high - 1]))
            if place != (answer.char_start, answer.char_end) or derived != transform.convert(answer.text):
                misplaced.append((example.id, answer.text, derived))
            # Private marks around the answer, where they change nothing else, show its place without any map.
            left, right = example.context[: answer.char_start], example.context[answer.char_end :]
            marked = transform.convert(f"{left}\ue000{answer.text}\ue001{right}")
            if marked.replace("\ue000", "").replace("\ue001", "") != whole.text:
                cut.append(example.id)
            elif (marked.index("\ue000"), marked.index("\ue001") - 1) != (low, high):
                unmarked.append((example.id, answer.text))
    assert n_answers == 7048
    assert not misplaced and not unmarked
    assert len(cut) == n_cut, "answers at whose edge a phrase was converted as a unit; all keep their length"


@pytest.mark.realdata
@pytest.mark.parametrize("config", ["t2s", "tw2s", "tw2sp"])
def test_every_drcd_answer_is_labelled_where_it_stands(data_dir: Path, config: str) -> None:
    examples, _ = read_examples(data_dir / "drcd" / "DRCD_dev.json", offset_unit="codepoint")
    pairs = [(example, answer) for example in examples for answer in example.answers]
    tokenizer = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt", do_lower_case=True)
    features = encode(
        [example for example, _ in pairs],
        [answer for _, answer in pairs],
        tokenizer,
        transform=opencc_transform(config),
    )
    counts = features.meta["counts"]
    assert counts["target_span"] == len(pairs) == 7048
    assert counts["target_without_piece"] == counts["target_in_no_window"] == 0
    window = np.flatnonzero(features.targets["end"])
    index = features.example_index[window]
    base = features.piece_splits[features.context_index[window]] + features.piece_start[window]
    base -= features.doc_offset[window]
    char_start = features.piece_spans[base + features.targets["start"][window], 0]
    char_end = features.piece_spans[base + features.targets["end"][window], 1]
    expected = np.array([(answer.char_start, answer.char_end) for _, answer in pairs])[index]
    wrong = (char_start != expected[:, 0]) | (char_end != expected[:, 1])
    # An edge inside a word piece takes the piece: "8" in 80%, in 81人. No edge is inside a unit of another length.
    assert {pairs[i][0].id for i in index[wrong]} == {"1180-23-1", "1194-6-3"}
    assert (char_start <= expected[:, 0]).all() and (char_end >= expected[:, 1]).all()
    assert len(set(index[wrong].tolist())) == counts["target_widened"]
    assert set(index.tolist()) == set(range(len(pairs)))


@pytest.mark.realdata
def test_pieces_without_a_character_keep_their_place_in_what_was_converted(data_dir: Path) -> None:
    """SentencePiece puts a lone "▁" before most texts; where a conversion keeps all places, so must the pieces."""
    examples, _ = read_examples(data_dir / "drcd" / "DRCD_dev.json", offset_unit="codepoint")
    tokenizer, transform = load_tokenizer(data_dir / "vocab" / "xlnet-zh-spiece.model"), opencc_transform("t2s")
    assert transform is not None
    contexts = list(dict.fromkeys(example.context for example in examples))
    features = encode(examples, [example.answers[0] for example in examples], tokenizer, transform=transform)
    derived = tokenizer.encode([transform(context).text for context in contexts])
    empty = derived.spans[:, 0] == derived.spans[:, 1]
    assert empty.sum() == 715 and features.piece_splits.tolist() == derived.splits.tolist()
    np.testing.assert_array_equal(features.piece_spans[:, 0], derived.spans[:, 0])
    # Ends differ where a piece gets marks that the tokenizer drops.
    assert (features.piece_spans[:, 1] >= derived.spans[:, 1]).all()
    assert (features.piece_spans[empty, 0] == features.piece_spans[empty, 1]).all()
    window = np.flatnonzero(features.targets["end"])
    piece = features.piece_splits[features.context_index[window]] + features.piece_start[window]
    piece += features.targets["start"][window] - features.doc_offset[window]
    starts = np.array([example.answers[0].char_start for example in examples])[features.example_index[window]]
    # An answer in the middle of a piece takes the piece.
    assert np.mean(features.piece_spans[piece, 0] == starts) > 0.97
    assert (starts - features.piece_spans[piece, 0] <= 8).all() and (features.piece_spans[piece, 0] <= starts).all()
