"""Write the demo corpora, in the layouts of CMRC2018, DRCD, CJRC, MSRA-NER and LCQMC, from grammars of our own.

No name, place, year, number, title or other answer of a dev file occurs in its train file; the characters they are
spelled with do. Run `python examples/make_corpus.py`; the output never changes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from corpus_cases import CIVIL, CRIMINAL, UNKNOWN, case
from corpus_lives import Context, Question, life, told_before
from corpus_names import Names
from corpus_rows import question_pairs, tagged_rows
from corpus_traditional import traditional

CORPUS = Path(__file__).resolve().parent / "corpus"
#: Contexts of train and dev.
N_CMRC2018, N_DRCD, N_CJRC = (830, 100), (380, 80), (540, 100)
#: Of the first of these, how many are tagged.
N_NER = (300, 60)
DOMAINS = (CIVIL, CRIMINAL)
PARAGRAPHS_PER_ARTICLE = (1, 4)
TOLD_BEFORE_SHARE = 0.15
#: Share of CJRC's answered questions that are marked impossible, and of its dev spans that one annotator missed.
CONTRADICTION_SHARE, DISAGREEMENT_SHARE = 0.05, 0.03
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# A BERT small enough to learn from scratch in seconds; so few features need a wide initialisation.
MODEL = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 192,
    "type_vocab_size": 2,
    "initializer_range": 0.1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def utf16_offset(text: str, char_offset: int) -> int:
    """Return a code-point offset in UTF-16 units, which is what CMRC2018 publishes."""
    return len(text[:char_offset].encode("utf-16-le")) // 2


def _spans(question: Question, n_annotators: int) -> list[tuple[str, int]]:
    """Return (text, first code point) per annotator; the last of several leaves out units and quotation marks."""
    spans = [(question.answer, question.char_start)] * n_annotators
    if n_annotators > 1 and question.char_start >= 0:
        bare = question.answer.strip("《》名元")
        spans[-1] = (bare, question.char_start + question.answer.index(bare))
    return spans


def cmrc2018_layout(contexts: Iterable[Context], split: str, n_annotators: int) -> dict[str, Any]:
    """Return lives in the SQuAD-style layout: ids DEMO_<split>_<i>_QUERY_<j>, offsets in UTF-16 units."""
    articles = []
    for i, context in enumerate(contexts):
        name = f"DEMO_{split}_{i}"
        qas = [
            {
                "question": question.text,
                "id": f"{name}_QUERY_{j}",
                "answers": [
                    {"text": text, "answer_start": utf16_offset(context.text, start)}
                    for text, start in _spans(question, n_annotators)
                ],
            }
            for j, question in enumerate(context.questions)
        ]
        paragraph = {"id": name, "context": context.text, "qas": qas}
        articles.append({"paragraphs": [paragraph], "id": name, "title": context.title})
    return {"version": "v1.0", "data": articles}


def original_layout(squad: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the same questions in the layout CMRC2018 was first published in, which has no offsets."""
    return [
        {
            "context_id": paragraph["id"],
            "context_text": paragraph["context"],
            "qas": [
                {
                    "query_text": qa["question"],
                    "query_id": qa["id"],
                    "answers": [answer["text"] for answer in qa["answers"]],
                }
                for qa in paragraph["qas"]
            ],
            "title": article["title"],
        }
        for article in squad["data"]
        for paragraph in article["paragraphs"]
    ]


def drcd_layout(
    contexts: Sequence[Context], first_article: int, n_annotators: int, rng: random.Random
) -> dict[str, Any]:
    """Return lives in DRCD's layout: several paragraphs per article, traditional, offsets in code points."""
    articles: list[dict[str, Any]] = []
    rest = list(contexts)
    while rest:
        n_paragraphs = rng.randint(*PARAGRAPHS_PER_ARTICLE)
        paragraphs, rest = rest[:n_paragraphs], rest[n_paragraphs:]
        article = f"{first_article + len(articles)}"
        articles.append(
            {
                "title": traditional(paragraphs[0].title),
                "id": article,
                "paragraphs": [
                    _drcd_paragraph(f"{article}-{i}", context, n_annotators, rng)
                    for i, context in enumerate(paragraphs, start=1)
                ],
            }
        )
    return {"version": "1.3", "data": articles}


def _drcd_paragraph(name: str, context: Context, n_annotators: int, rng: random.Random) -> dict[str, Any]:
    qas = [
        {
            "id": f"{name}-{j}",
            # DRCD mixes both question marks.
            "question": traditional(question.text[:-1]) + rng.choice("???？"),
            "answers": [
                {"id": f"{k}", "text": traditional(text), "answer_start": start}
                for k, (text, start) in enumerate(_spans(question, n_annotators), start=1)
            ],
        }
        for j, question in enumerate(context.questions, start=1)
    ]
    return {"context": traditional(context.text), "id": name, "qas": qas}


def cjrc_layout(cases: Iterable[tuple[str, Context]], *, dev: bool, rng: random.Random) -> dict[str, Any]:
    """Return cases, each with its domain, in CJRC's layout: of dev, or of training.

    Training has one answer or [], dev three; `is_impossible` is a string and contradicts some answers, as published.
    """
    articles = []
    for i, (domain, context) in enumerate(cases, start=1):
        caseid = f"{i}" if dev else f"demo{i:04}.txt"
        qas = []
        for j, question in enumerate(context.questions, start=1):
            impossible = question.answer == UNKNOWN or rng.random() < CONTRADICTION_SHARE
            answers = [{"answer_start": s, "text": text} for text, s in _spans(question, 3 if dev else 1)]
            if dev and question.char_start >= 0 and rng.random() < DISAGREEMENT_SHARE:
                answers[-1] = {"answer_start": -1, "text": UNKNOWN}
            qas.append(
                {
                    "question": question.text,
                    "answers": answers if dev or question.answer != UNKNOWN else [],
                    "id": f"{caseid}_{j}" if dev else f"{caseid}_{j:03}",
                    "is_impossible": "true" if impossible else "false",
                }
            )
        paragraph = {"context": context.text, "casename": context.title, "qas": qas}
        articles.append({"paragraphs": [paragraph], "caseid": caseid, "domain": domain})
    return {"version": "1.0", "data": articles} if dev else {"data": articles}


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Return the special tokens and every lower-cased character of the texts, in code-point order."""
    characters = sorted(set("".join(texts).lower()))
    inside_words = [f"##{c}" for c in characters if c.isascii() and c.isalnum()]
    return [*SPECIAL_TOKENS, *characters, *inside_words]


def _splits(
    seed: str, sizes: tuple[int, int], write: Callable[[Names, int], Context]
) -> tuple[list[Context], list[Context]]:
    """Return train and dev contexts; `write` gets the names of the split and the number of the context."""
    names = Names(f"{seed} train")
    train = [write(names, i) for i in range(sizes[0])]
    names = Names(f"{seed} dev", dev=True, forbidden="\n".join(c.text for c in train))
    return train, [write(names, i) for i in range(sizes[1])]


def _drcd_life(names: Names, _: int) -> Context:
    context = life(names)
    return told_before(context) if names.rng.random() < TOLD_BEFORE_SHARE else context


def _by_domain(cases: Sequence[Context]) -> list[tuple[str, Context]]:
    """Return the cases with their domains, the civil ones first, as published."""
    return [(domain.name, context) for i, domain in enumerate(DOMAINS) for context in cases[i :: len(DOMAINS)]]


def _dumps(document: Any, *, ensure_ascii: bool = False) -> str:
    """Return compact JSON with one article per line."""
    head, items = ({**document, "data": []}, document["data"]) if isinstance(document, dict) else ([], document)
    lines = ",\n".join(json.dumps(item, ensure_ascii=ensure_ascii, separators=(",", ":")) for item in items)
    return json.dumps(head).replace("[]", f"[\n{lines}\n]") + "\n"


def build() -> dict[str, str]:
    """Return the content of every file of the corpora by its name."""
    lives = _splits("demo", N_CMRC2018, lambda names, _: life(names))
    paragraphs = _splits("drcd", N_DRCD, _drcd_life)
    cases = _splits("cjrc", N_CJRC, lambda names, i: case(names, DOMAINS[i % len(DOMAINS)]))
    contexts = [context for splits in (lives, paragraphs, cases) for split in splits for context in split]
    vocab = vocabulary(["?", *(text for c in contexts for text in (c.text, *(q.text for q in c.questions)))])
    rng, pairs = random.Random("layouts"), random.Random("pairs")
    cmrc2018_dev = cmrc2018_layout(lives[1], "DEV", 3)
    layouts = {
        "demo_train.json": cmrc2018_layout(lives[0], "TRAIN", 1),
        "demo_dev.json": cmrc2018_dev,
        "demo_drcd_train.json": drcd_layout(paragraphs[0], 1001, 1, rng),
        "demo_drcd_dev.json": drcd_layout(paragraphs[1], 5001, 2, rng),
        "demo_cjrc_train.json": cjrc_layout(_by_domain(cases[0]), dev=False, rng=rng),
        "demo_cjrc_dev.json": cjrc_layout(_by_domain(cases[1]), dev=True, rng=rng),
    }
    return {
        **{name: _dumps(data) for name, data in layouts.items()},
        **{f"demo_ner_{split}.tsv": tagged_rows(lives[i][: N_NER[i]]) for i, split in enumerate(("train", "dev"))},
        **{f"demo_pairs_{split}.tsv": question_pairs(lives[i], pairs) for i, split in enumerate(("train", "dev"))},
        "demo_dev.orig.json": _dumps(original_layout(cmrc2018_dev), ensure_ascii=True),
        "vocab.txt": "\n".join(vocab) + "\n",
        "config.json": json.dumps(MODEL | {"vocab_size": len(vocab)}, indent=2) + "\n",
    }


def main() -> None:
    """Write the corpora."""
    parser = argparse.ArgumentParser(description="Write the demo corpora.")
    parser.add_argument("--output_dir", type=Path, default=CORPUS)
    output_dir = parser.parse_args().output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (output_dir / name).write_bytes(content.encode())


if __name__ == "__main__":
    main()
