"""Google BERT's WordPiece: text -> piece ids and their places in the original text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from preprocess.base.errors import DataError
from preprocess.ranges import Ints, offsets, ranges
from preprocess.tokenizers.added import AddedToken, AddedTokens, renumbered
from preprocess.tokenizers.basic import CharacterRules, Characters
from preprocess.tokenizers.files import TokenizerFiles, as_id
from preprocess.types import Pieces

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_BY_ROLE = {**dict(zip(("pad", "unk", "cls", "sep"), SPECIAL_TOKENS, strict=True)), "mask": "[MASK]"}
_REQUIRED_ROLES = ("pad", "unk", "cls", "sep")
_CONTINUES = "##"
# A longer word is unknown as a whole (Google's max_input_chars_per_word; transformers' is 100).
_LONGEST_WORD = 200
# Characters tokenised at once: what the arrays of a step hold stays in the processor's cache.
_CHARACTERS_PER_PART = 1 << 18
_NOTHING = (np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty(0, np.int64))
_NORMALIZER, _PRE_TOKENIZER = "BertNormalizer", "BertPreTokenizer"
#: Classes of transformers that have a program cut text into words first: MeCab, jieba.
_SEGMENTED = ("BertJapaneseTokenizer", "RoFormerTokenizer")
_JSON_OF_BERT = "give the tokenizer.json of a BERT model, or its vocab.txt"


class WordPieceTokenizer:
    """Google BERT's tokenizer: basic tokenizer, then greedy longest-match-first pieces.

    Unlike transformers, "[SEP]" written in a text is the characters "[", "SEP", "]", as in Google's code.

    Args:
        tokens: the vocabulary; a token's place is its id. One that stands twice counts where it stands last, as in
            Google's code and transformers; "" fills a place that no token has.
        do_lower_case: whether to lower-case and strip accents.
        strip_accents: whether to strip accents; None does what `do_lower_case` says.
        tokenize_chinese_chars: whether each CJK character is a word of its own.
        added: tokens that are looked for in the text before all else; those with a role are not.
        special: the special tokens by role; those of "pad", "unk", "cls" and "sep" must have an id.
        template: name of the template it is used with, if that is known.
        source: what to call the vocabulary in messages.

    Raises:
        DataError: if a special token has no id.
    """

    kind = "WordPiece"

    def __init__(
        self,
        tokens: Iterable[str],
        *,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        added: Sequence[AddedToken] = (),
        special: Mapping[str, str] = _BY_ROLE,
        template: str | None = None,
        source: str = "vocabulary",
    ) -> None:
        """Build the tokenizer; see the class for the arguments."""
        self._own = list(tokens)
        self._added, self._special = tuple(added), dict(special)
        self.template = template
        self.options = {
            "do_lower_case": do_lower_case,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
        }
        pieces = {token: index for index, token in enumerate(self._own) if token}
        self.vocab = {**pieces, **{token.content: token.id for token in added}}
        missing = [special[role] for role in _REQUIRED_ROLES if special[role] not in self.vocab]
        if missing:
            raise DataError(f"{source}: lacks {', '.join(missing)}; give a BERT WordPiece vocabulary")
        self.special_ids = {role: self.vocab[token] for role, token in special.items() if token in self.vocab}
        self.vocab_size = max(len(self._own), 1 + max((token.id for token in added), default=0))

        strip = do_lower_case if strip_accents is None else strip_accents
        self._rules = CharacterRules(lower=do_lower_case, strip_accents=strip, chinese_apart=tokenize_chinese_chars)
        looked_for = [token for token in added if token.content not in special.values()]
        self._looked_for = AddedTokens(looked_for, self._rules) if looked_for else None
        self._matcher = _Matcher(pieces, self.special_ids["unk"])
        self._of_character = np.full(0x110000, self.special_ids["unk"], np.int32)
        single = [token for token in pieces if len(token) == 1]
        self._of_character[[ord(token) for token in single]] = [pieces[token] for token in single]

    @property
    def tokens(self) -> list[str]:
        """The token of each id, "" for an id without one."""
        tokens = self._own + [""] * (self.vocab_size - len(self._own))
        for token in self._added:
            tokens[token.id] = token.content
        return tokens

    @property
    def fingerprint(self) -> str:
        """Hash of vocabulary and options: equal for tokenizers that give equal ids."""
        content: list[Any] = [self.tokens, self.options]
        if self._looked_for is not None:
            content.append([asdict(token) for token in self._added])
        if any(self._special.get(role) != token for role, token in _BY_ROLE.items()):
            content.append(self._special)
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def encode(self, texts: Sequence[str]) -> Pieces:
        """Tokenise texts, without special tokens.

        Args:
            texts: n strings; half surrogate pairs count as U+FFFD, which BERT drops.

        Returns:
            Ids (uint16 for up to 65536 tokens, else uint32), code-point spans and splits [n + 1].
        """
        seen = _Seen(self._matcher)
        parts = [self._encode_part(part, seen) for part in _parts(texts)]
        dtype: Any = np.uint16 if self.vocab_size <= 1 << 16 else np.uint32
        ids, spans, n_pieces = (np.concatenate(column) for column in zip(_NOTHING, *parts, strict=True))
        return Pieces(ids.astype(dtype), spans.astype(np.int32), offsets(n_pieces))

    def save(self, directory: str | Path) -> None:
        """Write vocab.txt and tokenizer_config.json, which transformers' AutoTokenizer loads too."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        roles = {f"{role}_token": token for role, token in self._special.items() if _BY_ROLE.get(role) != token}
        added = {str(token.id): {k: v for k, v in asdict(token).items() if k != "id"} for token in self._added}
        config = {
            "tokenizer_class": "BertTokenizer",
            **self.options,
            **roles,
            **({"added_tokens_decoder": added} if added else {}),
        }
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in self._own), "utf-8", newline="\n")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def needed(self, texts: Sequence[str]) -> set[int]:
        """Return the ids without which texts would be cut otherwise; see `Tokenizer`."""
        used = set(self.encode(texts).ids.tolist())
        seen = _Seen(self._matcher)
        for part in _parts(texts):
            self._encode_part(part, seen)
        # A word that ends as unknown could be made of other pieces if one of its first were gone.
        used.update(id for word in seen for id, *_ in self._matcher.begin(word))
        characters = {character for id in used for character in self.tokens[id].removeprefix(_CONTINUES)}
        used.update(id for token, id in self.vocab.items() if token.removeprefix(_CONTINUES) in characters)
        return used | {*self.special_ids.values()} | {token.id for token in self._added}

    def restricted(self, ids: Sequence[int]) -> WordPieceTokenizer:
        """Return a tokenizer without the other pieces; see `Tokenizer`."""
        own = [self._own[id] for id in ids if id < len(self._own)]
        return WordPieceTokenizer(
            own,
            **cast(dict[str, Any], self.options),
            added=renumbered(self._added, ids),
            special=self._special,
            template=self.template,
        )

    def _encode_part(self, texts: Sequence[str], seen: _Seen) -> tuple[Ints, Ints, Ints]:
        """Return ids, spans and the number of pieces of each text."""
        text = "\n".join([*texts, ""])
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        starts = offsets(lengths + 1)[:-1]
        characters = self._rules.apply(text)
        if self._looked_for is not None:
            characters = self._looked_for.apply(text, starts, starts + lengths, characters)
        ids, first, last = self._pieces(characters, seen)
        begin, end = characters.start[first], characters.end[last]
        index = np.searchsorted(starts, begin, side="right") - 1
        spans = np.stack([begin, end], axis=1) - starts[index, None]
        return ids, spans, np.bincount(index, minlength=len(texts))

    def _pieces(self, characters: Characters, seen: _Seen) -> tuple[Ints, Ints, Ints]:
        """Return the id, the first and the last character of each piece."""
        first, length = characters.words()
        ids = self._of_character[characters.code[first]].astype(np.int64)
        if characters.added is not None:
            added = characters.added[first]
            ids = np.where(added >= 0, added, ids)
        longer = np.flatnonzero(length > 1)
        word_starts, word_ends = first[longer], (first + length)[longer]
        text = str(characters)
        words = [text[start:end] for start, end in zip(word_starts.tolist(), word_ends.tolist(), strict=True)]
        rows = np.fromiter(map(seen.__getitem__, words), np.int64, len(words))
        counts = np.ones(len(first), np.int64)
        counts[longer] = np.array(seen.n_pieces, np.int64)[rows]
        edges = offsets(counts)
        ids, first = np.repeat(ids, counts), np.repeat(first, counts)
        last = first.copy()
        target = ranges(edges[longer], counts[longer])
        source = ranges(offsets(np.array(seen.n_pieces, np.int64))[rows], counts[longer])
        pieces = np.array(seen.pieces, np.int64).reshape(-1, 3)[source]
        ids[target] = pieces[:, 0]
        first[target] += pieces[:, 1]
        last[target] += pieces[:, 2] - 1
        return ids, first, last


class _Matcher:
    """Finds the pieces of a word, greedily from the left, each the longest in the vocabulary.

    Args:
        pieces: the vocabulary and its ids.
        unknown: id of a word that can't be made of pieces.
    """

    def __init__(self, pieces: Mapping[str, int], unknown: int) -> None:
        self._first, self._unknown = pieces, unknown
        self._rest = {piece.removeprefix(_CONTINUES): id for piece, id in pieces.items() if piece[:2] == _CONTINUES}
        self._longest = max(map(len, pieces), default=0)

    def match(self, word: str) -> list[tuple[int, int, int]]:
        """Return id, first character and end of each piece."""
        pieces = self.begin(word)
        return pieces if pieces and pieces[-1][2] == len(word) else [(self._unknown, 0, len(word))]

    def begin(self, word: str) -> list[tuple[int, int, int]]:
        """Return the pieces, as `match` does, up to the first place where none fits."""
        pieces: list[tuple[int, int, int]] = []
        start, known = 0, self._first
        while start < len(word) <= _LONGEST_WORD:
            for end in range(min(len(word), start + self._longest), start, -1):
                id = known.get(word[start:end])
                if id is not None:
                    break
            else:
                break
            pieces.append((id, start, end))
            start, known = end, self._rest
        return pieces


class _Seen(dict[str, int]):
    """Word -> its number in order of appearance, with the pieces of all words one after the other."""

    def __init__(self, matcher: _Matcher) -> None:
        super().__init__()
        self._matcher = matcher
        self.n_pieces: list[int] = []
        self.pieces: list[tuple[int, int, int]] = []

    def __missing__(self, word: str) -> int:
        pieces = self._matcher.match(word)
        self.n_pieces.append(len(pieces))
        self.pieces += pieces
        self[word] = number = len(self)
        return number


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut a list into parts of about `_CHARACTERS_PER_PART`."""
    part: list[str] = []
    n = 0
    for text in texts:
        part.append(text)
        n += len(text)
        if n >= _CHARACTERS_PER_PART:
            yield part
            part, n = [], 0
    if part:
        yield part


def load(files: TokenizerFiles, vocabulary: Path, do_lower_case: bool | None) -> WordPieceTokenizer:
    """Make the tokenizer of a vocab.txt or tokenizer.json and the files beside it.

    Raises:
        DataError: if they hold no WordPiece vocabulary with BERT's special tokens, or contradict each other.
    """
    if files.tokenizer_class in _SEGMENTED:
        raise DataError(
            f"{vocabulary}: of a {files.tokenizer_class}, which has another program cut text into words first; "
            "give a model whose tokenizer is BERT's"
        )
    if files.switch("do_basic_tokenize") is False:
        raise DataError(
            f"{vocabulary}: do_basic_tokenize is false in its tokenizer_config.json, and only true can be read; "
            "give a model whose tokenizer is BERT's"
        )
    special = files.special_tokens(_BY_ROLE)
    own = _of_json(files, special["unk"]) if vocabulary == files.saved_path else _of_lines(vocabulary)
    added = files.added_tokens({token: id for id, token in enumerate(own) if token}, special)
    stated = files.switch("do_lower_case", "lowercase") if do_lower_case is None else do_lower_case
    chinese = files.switch("tokenize_chinese_chars", "handle_chinese_chars")
    return WordPieceTokenizer(
        own,
        do_lower_case=stated is not False,
        strip_accents=files.switch("strip_accents", "strip_accents"),
        tokenize_chinese_chars=chinese is not False,
        # What a vocabulary holds already needs no second entry: BERT's own special tokens.
        added=[token for token in added if token.id >= len(own) or token.content not in special.values()],
        special=special,
        template=files.template,
        source=str(vocabulary),
    )


def _of_lines(path: Path) -> list[str]:
    """Return the tokens of a vocab.txt; the number of its line, from 0, is the id of each."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); give a vocab.txt, one piece per line") from None
    # Not splitlines(), which breaks at characters that are pieces: BERT's Chinese vocabulary has U+2028.
    tokens = [line.strip(" \t\r") for line in text.rstrip("\r\n").split("\n")]
    if tokens == [""]:
        raise DataError(f"{path}: empty file; give a vocab.txt, one piece per line")
    return tokens


def _of_json(files: TokenizerFiles, unknown: str) -> list[str]:
    """Return the tokens of a tokenizer.json by id, "" for an id without one; `unknown` is what a word without is."""
    path, model = files.saved_path, files.part("model")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise DataError(f'{path}: no "vocab" in its "model"; {_JSON_OF_BERT}')
    # A file that has none of these parts is BERT's; one that states there is none does less to a text than BERT.
    normalizer, splitter = (
        {"type": expected} if part not in files.saved else files.part(part)
        for part, expected in (("normalizer", _NORMALIZER), ("pre_tokenizer", _PRE_TOKENIZER))
    )
    for what, value, expected in (
        ("the normalizer", normalizer.get("type"), _NORMALIZER),
        ("the normalizer's clean_text", normalizer.get("clean_text", True), True),
        ("the pre_tokenizer", splitter.get("type"), _PRE_TOKENIZER),
        ("continuing_subword_prefix", model.get("continuing_subword_prefix", _CONTINUES), _CONTINUES),
        ("the model's unk_token", model.get("unk_token", unknown), unknown),
    ):
        if value != expected:
            raise DataError(f"{path}: {what} is {value!r}, and only {expected!r} can be read; {_JSON_OF_BERT}")
    ids = {token: as_id(id, token, path) for token, id in vocab.items()}
    tokens = [""] * (1 + max(ids.values(), default=-1))
    for token, id in ids.items():
        if tokens[id]:
            raise DataError(f"{path}: {tokens[id]!r} and {token!r} have the same id {id}; {_JSON_OF_BERT}")
        # No word has a line break or half a surrogate pair, and no vocab.txt can hold them.
        tokens[id] = "" if re.search("[\n\r\ud800-\udfff]", token) else token
    return tokens
