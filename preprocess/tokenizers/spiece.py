"""SentencePiece's own .model files: Chinese and English XLNet's, English ALBERT's, XLM-R's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.ranges import Ints, offsets, ranges
from preprocess.tokenizers.added import AddedToken, WrittenTokens, renumbered
from preprocess.tokenizers.cleaning import Cleaner, Rules, with_separators
from preprocess.tokenizers.files import TokenizerFiles
from preprocess.tokenizers.library import lower_cases
from preprocess.tokenizers.pieces import (
    BlankCharacters,
    Columns,
    around,
    code_points,
    joined,
    parts,
    single_characters,
    trimmed,
)
from preprocess.tokenizers.spiece_file import kept_always, with_pieces
from preprocess.types import Pieces

KIND = "Unigram (SentencePiece)"
_SPACE = "▁"
#: The pieces of a model that fairseq puts its own tokens in place of.
_REPLACED = ("<unk>", "<s>", "</s>")
#: Classes of which a model's own pieces say more.
_ANY_CLASS = ("", "PreTrainedTokenizer", "TokenizersBackend", "SentencePieceBackend")
_REQUIRED_ROLES = ("pad", "unk", "cls", "sep")


@dataclass(frozen=True, slots=True)
class Program:
    """What a published program does around SentencePiece.

    Args:
        mark: a special token that only its models have; "" for a model that has none of the others'.
        tokenizer_class: what transformers calls it.
        file: what its model is called.
        roles: its special tokens.
        template: the template that it is used with.
        rules: what it does to text first; what a tokenizer_config.json says goes before that.
        splits_digits: whether a piece like "12," is cut again without its comma, which becomes a piece.
        has_switches: whether its class knows those options; where not, a tokenizer.json goes before them.
        first: special tokens that stand before the model's pieces, in place of its own three.
        last: those behind.
    """

    mark: str
    tokenizer_class: str
    file: str
    roles: Mapping[str, str]
    template: str
    rules: Rules
    splits_digits: bool
    has_switches: bool
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


_SHARED = {"pad": "<pad>", "unk": "<unk>"}
PROGRAMS = (
    # google-research/albert, tokenization.py.
    Program(
        mark="[CLS]",
        tokenizer_class="AlbertTokenizer",
        file="spiece.model",
        roles={**_SHARED, "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        template="bert",
        rules=Rules(spaces=True, quotes=False, accents=False, lower=True),
        splits_digits=True,
        has_switches=True,
    ),
    # zihangdai/xlnet, prepro_utils.py.
    Program(
        mark="<cls>",
        tokenizer_class="XLNetTokenizer",
        file="spiece.model",
        roles={**_SHARED, "cls": "<cls>", "sep": "<sep>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"},
        template="xlnet",
        rules=Rules(spaces=True, quotes=True, accents=False, lower=False),
        splits_digits=True,
        has_switches=True,
    ),
    # fairseq's dictionary of XLM-R puts four tokens where the model has <unk>, <s> and </s>, and <mask> at the end.
    Program(
        mark="",
        tokenizer_class="XLMRobertaTokenizer",
        file="sentencepiece.bpe.model",
        roles={**_SHARED, "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"},
        template="roberta",
        rules=Rules(spaces=False, quotes=False, accents=True, lower=False),
        splits_digits=False,
        has_switches=False,
        first=("<s>", "<pad>", "</s>", "<unk>"),
        last=("<mask>",),
    ),
)


class SentencePieceTokenizer:
    """A SentencePiece model with what its program does before and after it.

    Ids are those of the program that the models were pretrained with. transformers differs from XLNet's and ALBERT's
    in one thing: it leaves a piece like "12," as it is.

    A character that became several pieces belongs to each of them with all of its width; a piece that stands for
    white space alone has an empty span. Special tokens written in a text are ordinary characters.

    Args:
        content: the model file.
        program: what is done around it.
        special: the special token of each role.
        added: tokens that are looked for in a text, as they are written, before all else; others are not.
        rules: what is done to text first.
        source: what to call the file in messages.

    Raises:
        DataError: if the file is no model, one that cuts characters into bytes, or lacks special tokens.
    """

    kind = KIND

    def __init__(
        self,
        content: bytes,
        program: Program,
        *,
        special: Mapping[str, str],
        added: Sequence[AddedToken] = (),
        rules: Rules | None = None,
        source: str = "model",
    ) -> None:
        """Build the tokenizer; see the class for the arguments."""
        self._content, self._program = content, program
        self._special, self._added = dict(special), tuple(added)
        self._rules = rules or program.rules
        self.template = program.template
        self.options: Mapping[str, Any] = {"do_lower_case": self._rules.lower, "keep_accents": self._rules.accents}
        self._engine = processor(content, source)
        own = pieces_of(self._engine)
        self._tokens = tokens_of(own, program)
        # Where the program has put tokens of its own, ids of pieces are moved.
        self._n_replaced = len(_REPLACED) if program.first else 0
        self._shift = len(program.first) - self._n_replaced
        ids = {token: id for id, token in enumerate(self._tokens)} | {token.content: token.id for token in added}
        for token in added:
            self._tokens += [""] * (token.id + 1 - len(self._tokens))
            self._tokens[token.id] = token.content
        self.vocab_size = len(self._tokens)
        missing = [special.get(role) or role for role in _REQUIRED_ROLES if special.get(role) not in ids]
        if missing:
            raise DataError(f"{source}: lacks the special tokens {', '.join(missing)}; give the model's own files")
        self.special_ids = {role: ids[token] for role, token in special.items() if token in ids}
        # A model never finds its control symbols in a text, but their letters may be an unknown piece.
        self._found = {piece: ids[piece] for id, piece in enumerate(own) if not self._engine.IsControl(id)}
        self._bare = np.array([bool(token) and not token.strip(_SPACE) for token in self._tokens])
        self._cleaner = Cleaner(self._rules)
        self._blank = BlankCharacters(self._is_blank)
        roles = set(special.values())
        self._looked_for = WrittenTokens(t for t in added if t.content not in roles and t.content not in self._found)

    @property
    def tokens(self) -> Sequence[str]:
        """The token of each id, "" for an id without one."""
        return self._tokens

    @property
    def fingerprint(self) -> str:
        """Hash of model, rules and special tokens: equal for tokenizers that give equal ids."""
        added = [asdict(token) for token in self._added]
        rules = [self._program.tokenizer_class, asdict(self._rules), self._special, added]
        hashed = hashlib.blake2b(self._content, digest_size=16)
        hashed.update(json.dumps(rules, sort_keys=True).encode())
        return hashed.hexdigest()

    def encode(self, texts: Sequence[str]) -> Pieces:
        """Tokenise texts, without special tokens.

        Args:
            texts: n strings; half surrogate pairs count as U+FFFD.

        Returns:
            Ids (uint16 for up to 65536 tokens, else uint32), code-point spans and splits [n + 1].
        """
        columns = (around(part, self._looked_for, self._encode_part) for part in parts(texts))
        return joined(list(columns), self.vocab_size)

    def needed(self, texts: Sequence[str]) -> set[int]:
        """Return the ids without which texts would be cut otherwise; see `Tokenizer`."""
        used = set(self.encode(texts).ids.tolist())
        # Pieces like "12," are cut once more, and what is left of them is in no result.
        for part in parts(texts):
            for ids in self._engine.Encode(self._cleaner.apply(part).texts):
                used.update(id + self._shift for id in ids if id >= self._n_replaced)
        used |= single_characters(self._tokens, used)
        kept = {id + self._shift for id in kept_always(self._content) if id >= self._n_replaced}
        ends = {*range(len(self._program.first)), *(self._tokens.index(token) for token in self._program.last)}
        return used | kept | ends | {*self.special_ids.values()} | {token.id for token in self._added}

    def restricted(self, ids: Sequence[int]) -> SentencePieceTokenizer:
        """Return a tokenizer without the other pieces; see `Tokenizer`."""
        own = {*range(self._n_replaced), *(id - self._shift for id in ids if id - self._shift >= self._n_replaced)}
        return SentencePieceTokenizer(
            with_pieces(self._content, own),
            self._program,
            special=self._special,
            added=renumbered(self._added, ids),
            rules=self._rules,
        )

    def save(self, directory: str | Path) -> None:
        """Write the model and tokenizer_config.json, which transformers' AutoTokenizer loads too."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        roles = {f"{role}_token": token for role, token in self._special.items()}
        added = {str(token.id): {k: v for k, v in asdict(token).items() if k != "id"} for token in self._added}
        config = {
            "tokenizer_class": self._program.tokenizer_class,
            **self.options,
            "remove_space": self._rules.spaces,
            **roles,
            **({"added_tokens_decoder": added} if added else {}),
        }
        (directory / self._program.file).write_bytes(self._content)
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def _encode_part(self, texts: list[str], _at_start: NDArray[np.bool_]) -> Columns:
        """Return ids, starts and ends of the pieces, and how many each text has."""
        cleaned = self._cleaner.apply(texts)
        inputs = cleaned.texts
        pieces = self._engine.Encode(inputs, out_type=str)
        normal = self._engine.Normalize(inputs, with_offsets=True)
        # How many characters of the normalised text each piece has.
        ids, sizes, counts = self._seen().look_up(pieces)
        lengths = np.fromiter((len(text) for text, _ in normal), np.int64, len(normal))
        edges = np.cumsum(sizes)
        filled = offsets(lengths)
        assert np.array_equal(np.append(0, edges)[offsets(counts)], filled), "the pieces of a text join to it"
        # Where characters begin in the cleaned texts, each with its separator; those of a text are one more.
        places = np.fromiter(chain.from_iterable(place for _, place in normal), np.int64, filled[-1] + len(normal))
        base = offsets(np.fromiter(map(len, inputs), np.int64, len(inputs)) + 1)
        places += np.repeat(base[:-1], lengths + 1)
        text = np.repeat(np.arange(len(texts)), counts)
        first = places[edges - sizes + text]
        # The next place that is another one: several characters may come from one.
        follows = np.searchsorted(places, places[edges - 1 + text], side="right")
        limits = base[text + 1] - 1
        end = np.minimum(places[np.minimum(follows, len(places) - 1)], limits)
        end = np.where(follows < len(places), end, limits)
        begin, end = cleaned.back(first, end)
        blank = self._blank[code_points(with_separators(texts))]
        starts, ends = trimmed(begin, end, blank, self._bare[ids])
        own = offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)[text]
        return ids, starts - own, ends - own, counts

    def _is_blank(self, char: str) -> bool:
        cleaned = self._cleaner.apply([char]).texts[0]
        return not str(self._engine.Normalize(cleaned)).replace(_SPACE, " ").strip()

    def _seen(self) -> _Seen:
        return _Seen(self._found, self.special_ids["unk"], self._engine if self._program.splits_digits else None)


class _Seen(dict[str, int]):
    """Piece -> its number in order of appearance, with the ids that it gets and how many characters each has.

    Args:
        ids: the pieces that a text can get.
        unknown: the id of all others.
        again: the model that a piece such as "12," is cut by once more; None leaves it whole.
    """

    def __init__(self, ids: Mapping[str, int], unknown: int, again: Any | None) -> None:
        super().__init__()
        self._ids, self._unknown, self._again = ids, unknown, again
        self._rows: list[tuple[int, int]] = []
        self._counts: list[int] = []

    def __missing__(self, piece: str) -> int:
        parts = self._cut_again(piece)
        self._rows += [(self._ids.get(part, self._unknown), len(part)) for part in parts]
        self._counts.append(len(parts))
        self[piece] = number = len(self)
        return number

    def look_up(self, pieces: Sequence[Sequence[str]]) -> tuple[Ints, Ints, Ints]:
        """Return the ids of all texts' pieces, how many characters each has, and how many pieces each text has."""
        n_pieces = np.fromiter(map(len, pieces), np.int64, len(pieces))
        numbers = np.fromiter(map(self.__getitem__, chain.from_iterable(pieces)), np.int64, int(n_pieces.sum()))
        counts = np.array(self._counts, np.int64)
        rows = np.array(self._rows, np.int64).reshape(-1, 2)[ranges(offsets(counts)[numbers], counts[numbers])]
        edges = offsets(counts[numbers])[offsets(n_pieces)]
        return rows[:, 0], rows[:, 1], np.diff(edges)

    def _cut_again(self, piece: str) -> list[str]:
        if self._again is None or len(piece) < 2 or piece[-1] != "," or not piece[-2].isdigit():
            return [piece]
        parts: list[str] = self._again.Encode(piece[:-1].replace(_SPACE, ""), out_type=str)
        if piece[0] != _SPACE and parts[0][0] == _SPACE:
            parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
        # A model with white space behind words, or words as pieces, makes another text of it; no program's does.
        return [*parts, ","] if sum(map(len, parts)) == len(piece) - 1 else [piece]


def processor(content: bytes, source: str) -> Any:
    """Return SentencePiece's processor of a model file.

    Raises:
        DataError: if it is none, or one that cuts characters into bytes.
    """
    import sentencepiece

    try:
        engine = sentencepiece.SentencePieceProcessor(model_proto=content)
    except Exception as error:  # The library raises plain RuntimeErrors.
        raise DataError(f"{source}: not a SentencePiece model ({error}); restore it from its publisher") from None
    if any(map(engine.IsByte, range(engine.GetPieceSize()))):
        raise DataError(
            f"{source}: a SentencePiece model that cuts unknown characters into bytes, as language models have; "
            "give one of XLNet, ALBERT or XLM-R"
        )
    return engine


def pieces_of(engine: Any) -> list[str]:
    """Return a model's pieces by its own ids."""
    return [engine.IdToPiece(id) for id in range(engine.GetPieceSize())]


def tokens_of(own: list[str], program: Program) -> list[str]:
    """Return the tokens by the ids of the program."""
    return [*program.first, *own[len(_REPLACED) :], *program.last] if program.first else list(own)


def _program(own: list[str], stated: str, model: Path) -> Program:
    """Return the program that a model belongs to, by the class that its files state, else by its special tokens."""
    classes = [program.tokenizer_class for program in PROGRAMS]
    named = [program for program in PROGRAMS if program.tokenizer_class == stated]
    by_mark = [program for program in PROGRAMS if not program.mark or program.mark in own]
    program = next(iter(named if stated not in _ANY_CLASS else by_mark), None)
    if program is None:
        problem = f"of the tokenizer_class {stated!r}"
    elif program.first and (own[:3] != list(_REPLACED) or not {*program.first, *program.last}.isdisjoint(own[3:])):
        problem = f"with pieces {', '.join(own[:8])} …"
    else:
        return program
    raise DataError(f"{model}: a model {problem}, whose ids are not known here; give one of {' or '.join(classes)}")


def load(files: TokenizerFiles, model: Path, do_lower_case: bool | None) -> SentencePieceTokenizer:
    """Make the tokenizer of a .model file and the files beside it.

    Raises:
        DataError: if they are damaged, of a program that is not known here, or contradict each other.
    """
    try:
        content = model.read_bytes()
    except OSError as error:
        raise DataError(f"{model}: can't be read ({error})") from None
    own = pieces_of(processor(content, str(model)))
    program = _program(own, files.tokenizer_class, model)
    tokens = {token: id for id, token in enumerate(tokens_of(own, program))}
    special = files.special_tokens(program.roles)
    switches = {name: files.switch(name) for name in ("remove_space", "keep_accents", "do_lower_case")}
    if files.saved and not program.has_switches:
        switches = dict.fromkeys(switches)
    if files.saved and switches["do_lower_case"] is None:
        switches["do_lower_case"] = lower_cases(files.saved.get("normalizer"))
    if do_lower_case is not None:
        switches["do_lower_case"] = do_lower_case
    fields = {"remove_space": "spaces", "keep_accents": "accents", "do_lower_case": "lower"}
    rules = asdict(program.rules) | {fields[name]: value for name, value in switches.items() if value is not None}
    return SentencePieceTokenizer(
        content,
        program,
        special=special,
        added=[token for token in files.added_tokens(tokens, special) if token.content not in tokens],
        rules=Rules(**rules),
        source=str(model),
    )
