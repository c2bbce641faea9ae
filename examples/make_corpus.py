"""Write the demo corpus: small invented lives, in the layouts of CMRC2018, from a seeded grammar of our own.

A context tells six to nine things of one invented person, in random order; which of them is the answer depends on the
question alone. In some contexts a teacher and a friend are told apart by their clause only, not by their spelling.
No name, place, year, number, title or other answer of dev occurs in train; the characters they are spelled with do.

Run `python examples/make_corpus.py`; the output never changes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parent / "corpus"
N_TRAIN_CONTEXTS, N_DEV_CONTEXTS = 830, 100
QUESTIONS_PER_CONTEXT, FACTS_PER_CONTEXT = 7, (6, 8)
MIN_CONTEXT_CHARS, MAX_CONTEXT_CHARS = 60, 150
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

SURNAMES = "赵钱孙李周吴郑王冯陈沈韩杨朱秦许何吕张孔曹严魏姜谢邹苏潘范彭鲁韦方任袁柳"
# Teachers and friends have compound surnames: a tiny model finds the start of an answer by its spelling first.
COMPOUND_SURNAMES = ("欧阳", "司马", "诸葛", "慕容", "皇甫", "尉迟", "令狐", "独孤", "轩辕", "夏侯")
# Shared by given names and titles.
SYLLABLES = "文子安远思齐云山白石春秋林月华平松柏青永宁天星玉龙凤竹金水梅兰雪风雨高新古田成志家国世荣"
# Outside the BMP: two UTF-16 units each, so that published offsets behind them differ from Python's.
ASTRAL = "𠮷𣲗𬱖"
#: Three-character entities: what their first, second and last character is drawn from.
SPELLINGS = {
    "county": ("江河湖海溪泉川港湾滩沙池渡桥", "东西南北前后左右上下", "县镇村州"),
    "temple": ("慈善福德仁义禅觉普法真如", "光明辉照恩缘慧净空圆", "寺庙庵"),
    "animal": ("黑红黄紫褐花斑卷短灰粉", "毛尾耳眼角嘴爪颈腿背", "狗猫羊兔鹿"),
    "profession": ("木铁铜纸布皮陶瓷漆银锡砖棉麻丝", "雕编刻画染织修刷烧磨补", "匠师工"),
}
GIVEN_ENDS = "杰伟强刚勇俊辰豪峰磊涛"
CONSONANTS, VOWELS = "bdklmnrst", "aeiou"
#: The share of years and numbers that only dev may use, in percent.
DEV_NUMBERS = 20

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


@dataclass(frozen=True)
class Attribute:
    """One thing told of a person.

    Args:
        kind: type of the answer.
        clause: how it is told; `X` is the answer.
        questions: ways to ask for it; `P` is the person.
        unit: measure word that ends the answer.
    """

    kind: str
    clause: str
    questions: tuple[str, ...]
    unit: str = ""


ATTRIBUTES = (
    Attribute("county", "生于X", ("P出生在哪里？", "P生于哪里？")),
    Attribute("temple", "学艺于X", ("P在哪座寺庙学艺？", "P学艺的寺庙叫什么？")),
    Attribute("master", "老师是X", ("P的老师是谁？", "P的老师叫什么？")),
    Attribute("profession", "是一名X", ("P的职业是什么？", "P是做什么工作的？")),
    Attribute("year", "开店于X", ("P是哪一年开店的？", "P什么时候开店？")),
    Attribute("count", "徒弟有X", ("P收了多少徒弟？", "P有几名徒弟？"), "名"),
    Attribute("book", "写了一本X", ("P写了哪本书？", "P写的书叫什么？")),
    Attribute("animal", "养了一只X", ("P养了什么动物？", "P养的是什么？")),
)
# A second person in some contexts: teacher and friend are told apart by what stands before them alone, which a tiny
# model learns slowly.
FRIEND = Attribute("master", "好友叫X", ("P的好友是谁？", "P的好友叫什么？"))
FRIEND_SHARE = 0.3
FILLERS = ("那里四季分明", "当地的人都记得这些事", "这些事写在地方志里", "这个故事流传很广")


@dataclass(frozen=True)
class Question:
    """A question, its answer and the answer's first code point in the context."""

    text: str
    answer: str
    char_start: int


@dataclass(frozen=True)
class Context:
    """A context, whom it tells of, and its questions."""

    title: str
    text: str
    questions: tuple[Question, ...]


class Writer:
    """Writes contexts of one split whose entities occur neither in the other split nor twice in a context."""

    def __init__(self, seed: str, *, dev: bool = False, forbidden: str = "") -> None:
        """Start a seeded generator.

        Args:
            seed: names the random sequence.
            dev: whether to use the numbers reserved for dev, or the others.
            forbidden: text in which no entity may occur.
        """
        self.rng, self.dev, self.forbidden = random.Random(seed), dev, forbidden

    def _syllables(self, low: int, high: int) -> str:
        return "".join(self.rng.sample(SYLLABLES, self.rng.randint(low, high)))

    def _number(self, low: int, high: int) -> str:
        while True:
            number = self.rng.randint(low, high)
            if (number * 37 % 100 < DEV_NUMBERS) == self.dev:
                return str(number)

    def _person(self) -> str:
        kind = self.rng.random()
        if kind < 0.02:
            parts = (self.rng.choice(CONSONANTS) + self.rng.choice(VOWELS) for _ in range(3))
            return "".join(parts).capitalize()
        given = self._syllables(1, 1) if kind < 0.25 else self._syllables(2, 2)
        if kind > 0.98:
            given = self.rng.choice(ASTRAL) + given[1:]
        return self.rng.choice(SURNAMES) + given

    def _spell(self, kind: str) -> str:
        match kind:
            case "person":
                return self._person()
            case "county" | "temple" | "animal" | "profession":
                first, second, last = SPELLINGS[kind]
                return self.rng.choice(first) + self.rng.choice(second) + self.rng.choice(last)
            case "master":
                return self.rng.choice(COMPOUND_SURNAMES) + self._syllables(1, 1) + self.rng.choice(GIVEN_ENDS)
            case "year":
                return self._number(1700, 2019) + "年"
            case "count":
                return self._number(100, 999)
            case _:
                return f"《{self._syllables(2, 3)}{self.rng.choice('记集录谱')}》"

    def _entity(self, kind: str, used: list[str]) -> str:
        while True:
            value = self._spell(kind)
            core = value.strip("《》")
            if core not in self.forbidden and not any(core in other or other in core for other in used):
                used.append(core)
                return value

    def _draft(self) -> Context:
        rng, used = self.rng, list[str]()
        person = self._entity("person", used)
        attributes = rng.sample(ATTRIBUTES, rng.randint(*FACTS_PER_CONTEXT))
        if rng.random() < FRIEND_SHARE:
            attributes.insert(rng.randint(1, len(attributes)), FRIEND)
        told = [(attribute, self._entity(attribute.kind, used) + attribute.unit) for attribute in attributes]
        text, questions = "", []
        for i, (attribute, value) in enumerate(told):
            subject = person if i == 0 else rng.choice(("", "他", person))
            before, after = attribute.clause.split("X")
            text += subject + before
            questions.append(Question(rng.choice(attribute.questions).replace("P", person), value, len(text)))
            text += value + after + rng.choice("，。" if i + 1 < len(told) else "。")
        if rng.random() < 0.3:
            text += rng.choice(FILLERS) + "。"
        return Context(person, text, tuple(rng.sample(questions, min(len(questions), QUESTIONS_PER_CONTEXT))))

    def context(self) -> Context:
        """Return the next context, MIN_CONTEXT_CHARS to MAX_CONTEXT_CHARS long."""
        while True:
            context = self._draft()
            if MIN_CONTEXT_CHARS <= len(context.text) <= MAX_CONTEXT_CHARS:
                return context


def utf16_offset(text: str, char_offset: int) -> int:
    """Return a code-point offset in UTF-16 units, which is what CMRC2018 publishes."""
    return len(text[:char_offset].encode("utf-16-le")) // 2


def _answers(context: Context, question: Question, n_annotators: int) -> list[dict[str, Any]]:
    spans = [(question.answer, question.char_start)] * n_annotators
    if n_annotators > 1:  # Annotators differ about units and quotation marks.
        bare = question.answer.strip("《》名间")
        spans[-1] = (bare, question.char_start + question.answer.index(bare))
    return [{"text": text, "answer_start": utf16_offset(context.text, start)} for text, start in spans]


def squad_style(contexts: Iterable[Context], split: str, n_annotators: int) -> dict[str, Any]:
    """Return contexts in the SQuAD-style layout: ids DEMO_<split>_<i>_QUERY_<j>, offsets in UTF-16 units."""
    articles = []
    for i, context in enumerate(contexts):
        name = f"DEMO_{split}_{i}"
        qas = [
            {"question": q.text, "id": f"{name}_QUERY_{j}", "answers": _answers(context, q, n_annotators)}
            for j, q in enumerate(context.questions)
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


def vocabulary(contexts: Iterable[Context]) -> list[str]:
    """Return the special tokens and every lower-cased character of the corpus, in code-point order."""
    text = "".join(c.text + "".join(q.text for q in c.questions) for c in contexts)
    characters = sorted(set(text.lower()))
    inside_words = [f"##{c}" for c in characters if c.isascii() and c.isalnum()]
    return [*SPECIAL_TOKENS, *characters, *inside_words]


def build() -> dict[str, str]:
    """Return the content of every file of the corpus by its name."""
    writer = Writer("demo train")
    train = [writer.context() for _ in range(N_TRAIN_CONTEXTS)]
    writer = Writer("demo dev", dev=True, forbidden="\n".join(c.text for c in train))
    dev = [writer.context() for _ in range(N_DEV_CONTEXTS)]
    vocab = vocabulary([*train, *dev])
    squad_dev = squad_style(dev, "DEV", 3)
    return {
        "demo_train.json": json.dumps(squad_style(train, "TRAIN", 1), ensure_ascii=False, indent=0) + "\n",
        "demo_dev.json": json.dumps(squad_dev, ensure_ascii=False, indent=0) + "\n",
        "demo_dev.orig.json": json.dumps(original_layout(squad_dev)) + "\n",
        "vocab.txt": "\n".join(vocab) + "\n",
        "config.json": json.dumps(MODEL | {"vocab_size": len(vocab)}, indent=2) + "\n",
    }


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description="Write the demo corpus.")
    parser.add_argument("--output_dir", type=Path, default=CORPUS)
    output_dir = parser.parse_args().output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (output_dir / name).write_bytes(content.encode())


if __name__ == "__main__":
    main()
