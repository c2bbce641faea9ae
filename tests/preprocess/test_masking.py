"""What is hidden of a text: whole words by jieba, the published shares, runs of words, similar words."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.masking import NGRAM, Masking, read_similar_words, words_of_pieces
from preprocess.readers.lines import read_lines
from preprocess.template import TEMPLATES, Template
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import NO_TARGET, Example
from tasks.problems.masked_lm import PIECE, MaskedProblem, vocabulary_ids
from tests.support.vocabularies import LINES, train_bpe, write_unigram

#: The sentence of the paper's example (Cui et al. 2021, table 1), and words of it that it hides as wholes.
SENTENCE = "使用语言模型来预测下一个词的概率"
WORDS = ("模型", "预测")
MASK = 4


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wordpiece")
    characters = sorted({c for line in (SENTENCE, "小猫住在北京。") for c in line})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, "play", "##ing", "pro", "##ba", "##bility"]
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return load_tokenizer(directory)


def masking(**changes):
    return Masking(**{"mask_id": MASK, "random_ids": np.arange(100, 200), **changes})


def window(n_words, size=1):
    """A window of so many words of so many pieces each, between two special tokens."""
    words = np.repeat(np.arange(n_words), size)
    words = np.concatenate([[NO_TARGET], words, [NO_TARGET]])
    return np.arange(len(words)) + 1000, words


def draws(mask, ids, words, n):
    for seed in range(n):
        yield mask.draw(ids, words, len(ids), np.random.default_rng(seed))


def encoded(tokenizer, text, template=TEMPLATES["bert"], **changes):
    problem = MaskedProblem(masking(mask_id=tokenizer.special_ids["mask"], **changes))
    return problem, problem.encode([Example("1", "", text)], [None], tokenizer, max_seq_length=64, template=template)


def hidden_texts(problem, features, text, seed):
    """Return the characters that are hidden of a text's only window, as a set of places."""
    from experiment.inputs.data import Data

    batch = Data([], features, problem).batch(np.array([0]), seed, 0)
    counted = batch.targets[PIECE][0] != NO_TARGET
    places = batch.inputs["places"][0][counted] - features.doc_offset[0]
    assert (batch.targets[PIECE][0][counted] == features.input_ids[places + features.doc_offset[0]]).all()
    return {c for start, end in features.piece_spans[places] for c in range(start, end)}


def test_words_of_the_published_example_are_hidden_as_wholes(wordpiece):
    problem, features = encoded(wordpiece, SENTENCE, share=0.3)
    seen = {word: set() for word in WORDS}
    for seed in range(200):
        hidden = hidden_texts(problem, features, SENTENCE, seed)
        for word in WORDS:
            start = SENTENCE.index(word)
            seen[word].add(len(hidden & set(range(start, start + len(word)))))
    # Whatever the seed: all characters of a word, or none, and both happen.
    assert seen == {"模型": {0, 2}, "预测": {0, 2}}


def test_a_word_is_all_its_pieces_whoever_cut_them(wordpiece, tmp_path):
    pieces = wordpiece.encode(["playing小猫 probability"])
    names = [wordpiece.tokens[i] for i in pieces.ids]
    assert names == ["play", "##ing", "小", "猫", "pro", "##ba", "##bility"]
    assert words_of_pieces(["playing小猫 probability"], pieces).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_words_that_share_a_piece_are_one(tmp_path):
    unigram = load_tokenizer(write_unigram(tmp_path))
    text = "我爱北京"  # jieba: 我 爱 北京; the vocabulary has 我爱 as one piece
    pieces = unigram.encode([text])
    names = [unigram.tokens[i] for i in pieces.ids]
    assert "我爱" in names[0] + names[1] and "北京" in names
    words = words_of_pieces([text], pieces).tolist()
    assert words[names.index("北京")] == words[-1] == 1 and set(words[:-1]) == {0}


def test_the_bytes_of_a_character_are_hidden_together(tmp_path):
    bpe = load_tokenizer(train_bpe(tmp_path, vocab_size=300))
    text = LINES[0]
    pieces = bpe.encode([text])
    assert len(pieces.ids) > len(text)  # characters that the vocabulary lacks are several pieces of bytes
    words = words_of_pieces([text], pieces)
    for character in range(len(text)):
        of_character = words[(pieces.spans[:, 0] <= character) & (character < pieces.spans[:, 1])]
        assert len(set(of_character.tolist())) <= 1
    problem, features = encoded(bpe, text, TEMPLATES["roberta"])
    assert all(hidden_texts(problem, features, text, seed) for seed in range(20))


@pytest.mark.parametrize("size", [1, 2])
def test_fifteen_percent_are_hidden_as_in_the_original(size):
    ids, words = window(100, size)
    n = [len(places) for places, _ in draws(masking(), ids, words, 50)]
    # round(0.15 x tokens, the two special ones among them); of words of two pieces an odd one is left.
    expected = round(0.15 * len(ids))
    assert set(n) == {expected - expected % size}
    most = masking(most=7)
    assert {len(places) for places, _ in draws(most, ids, words, 20)} == {7 - 7 % size}


def test_a_word_that_does_not_fit_gives_way_to_one_that_does():
    ids, words = np.arange(9), np.array([NO_TARGET, 0, 0, 0, 0, 0, 0, 1, NO_TARGET])
    assert {tuple(places) for places, _ in draws(masking(), ids, words, 30)} == {(7,)}


def test_of_the_hidden_eighty_percent_are_masked_ten_random_and_ten_stay():
    ids, words = window(400)
    masked = kept = changed = 0
    for places, instead in draws(masking(), ids, words, 200):
        masked += int((instead == MASK).sum())
        kept += int((instead == ids[places]).sum())
        changed += int(((instead >= 100) & (instead < 200)).sum())
    n = masked + kept + changed
    assert n == 200 * 60
    # Four standard deviations of 12000 throws.
    assert abs(masked / n - 0.8) < 4 * (0.8 * 0.2 / n) ** 0.5
    for count in (kept, changed):
        assert abs(count / n - 0.1) < 4 * (0.1 * 0.9 / n) ** 0.5


def test_every_word_is_hidden_as_often():
    ids, words = window(40)
    counts = np.zeros(len(ids))
    for places, _ in draws(masking(), ids, words, 1000):
        counts[places] += 1
    assert counts[0] == counts[-1] == 0
    # 6 of 40 words in each of 1000 draws: 150 expected, and four standard deviations of it.
    assert abs(counts[1:-1] - 150).max() < 4 * (1000 * 0.15 * 0.85) ** 0.5


def test_runs_of_words_are_of_the_lengths_of_macbert():
    ids, words = window(20000)
    lengths = np.zeros(9)
    for places, _ in draws(masking(runs=NGRAM, most=200), ids, words, 20):
        assert len(places) == 200
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        lengths += np.bincount([len(run) for run in runs], minlength=9)
    # Some 2000 runs, of which two in a hundred touch another; three standard deviations and these.
    for length, share in enumerate(NGRAM, 1):
        assert abs(lengths[length] / lengths.sum() - share) < 0.05
    singles = draws(masking(most=200), ids, words, 5)
    assert all((np.diff(places) == 1).mean() < 0.05 for places, _ in singles)


def test_similar_words_replace_whole_words(wordpiece, tmp_path):
    table = tmp_path / "similar.txt"
    table.write_text("北京 小猫\t住在 北京\n\n住在 一个\n概率 词\n", encoding="utf-8")
    similar, n_words, n_lines = read_similar_words(table, wordpiece)
    cut = {word: tuple(wordpiece.encode([word]).ids.tolist()) for word in ("北京", "小猫", "住在", "一个")}
    # 词 has one piece and 概率 two: it can't stand in its place.
    assert similar == {cut["北京"]: (cut["小猫"], cut["住在"]), cut["住在"]: (cut["一个"],)}
    assert (n_words, n_lines) == (2, 3)
    ids = np.array([2, *cut["北京"], 3])
    words = np.array([NO_TARGET, 0, 0, NO_TARGET])
    seen = {}
    for places, instead in draws(masking(similar=similar, share=0.9), ids, words, 400):
        assert places.tolist() == [1, 2]
        seen[tuple(instead.tolist())] = seen.get(tuple(instead.tolist()), 0) + 1
    assert MASK not in {piece for pair in seen for piece in pair}
    # 40 % each; 10 % stay; the rest is random.
    assert abs(seen[cut["小猫"]] - 160) < 40 and abs(seen[cut["住在"]] - 160) < 40
    assert abs(seen[cut["北京"]] - 40) < 24
    # A word without a similar one is replaced by random pieces.
    other = np.array([2, 90, 91, 3])
    drawn = {tuple(instead) for _, instead in draws(masking(similar=similar, share=0.9), other, words, 50)}
    assert all(pair == (90, 91) or all(100 <= piece < 200 for piece in pair) for pair in drawn)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("北京 小猫\n".encode("gbk"), "not UTF-8"),
        ("北京 小猫\n住在\n".encode(), "line 2 has no similar word of '住在'"),
        ("概率 词\n".encode(), "no word has a similar one of as many pieces"),
        (b"", "no word has a similar one"),
        (None, "no such file"),
    ],
)
def test_a_table_that_can_not_be_used_is_named(wordpiece, tmp_path, content, said):
    table = tmp_path / "similar.txt"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        read_similar_words(table, wordpiece)
    assert "similar.txt" in str(error.value)


def test_random_pieces_are_no_special_ones(wordpiece):
    ids = vocabulary_ids(wordpiece)
    assert len(ids) == wordpiece.vocab_size - 5 and not set(ids.tolist()) & set(wordpiece.special_ids.values())


@pytest.mark.parametrize(
    ("name", "order", "segments"),
    [("bert", ("cls", "context", "sep"), (0, 0, 0)), ("roberta", ("cls", "context", "sep"), (0, 0, 0))],
)
def test_a_single_text_stands_as_in_pretraining(name, order, segments):
    alone = TEMPLATES[name].alone()
    assert (alone.order, alone.segments) == (order, segments)
    assert alone.alone() == alone


def test_a_single_text_of_a_family_that_ends_in_cls_keeps_it_there():
    alone = TEMPLATES["xlnet"].alone()
    assert alone == Template(
        order=("context", "sep", "cls"), segments=(0, 0, 2), padding_side="left", padding_segment=3
    )


def test_lines_are_read_packed_and_in_utf_16_as_all_texts_are(tmp_path):
    path = tmp_path / "texts.txt"
    for content in (
        b"\xef\xbb\xbf" + "甲\r\n乙".encode(),
        gzip.compress("甲\n乙".encode()),
        "甲\r乙".encode("utf-16"),
    ):
        path.write_bytes(content)
        assert read_lines(path) == (["甲", "乙"], hashlib.sha256(content).hexdigest())
    path.write_bytes(gzip.compress(b"x")[:-4])
    with pytest.raises(DataError, match=r"texts\.txt: a damaged gzip file .*; get it again"):
        read_lines(path)
