"""Tokenizers that a tokenizer.json describes, run by the `tokenizers` library; their spans are made exact here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.tokenizers.added import AddedToken, WrittenTokens, renumbered
from preprocess.tokenizers.cleaning import unchanged, with_separators
from preprocess.tokenizers.files import SAVED, TokenizerFiles, as_id
from preprocess.tokenizers.normalizing import Aligner
from preprocess.tokenizers.pieces import (
    BlankCharacters,
    Columns,
    around,
    bases,
    code_points,
    joined,
    parts,
    single_characters,
    trimmed,
)
from preprocess.types import Pieces

#: What stands for a space in the pieces of SentencePiece, and of byte-level BPE.
_METASPACE, _BYTE_SPACE = "▁", "Ġ"
#: What no text has: Unicode's first noncharacter.
_NO_TEXT = "\ufdd0"
#: A piece that stands for a byte of a character that has no piece.
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_REQUIRED_ROLES = ("pad", "unk", "cls", "sep")
_RESTORE = "restore it from the model's publisher"


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library: its ids, and spans without the white space that it counts in.

    A special token written in a text is ordinary characters, as in the programs that the models were pretrained with.

    A character that became several pieces (a part of "…", or of its bytes) belongs to each of them with all of its
    width. A piece that stands for white space alone has an empty span, before the character that follows it.

    Args:
        kind: what messages call it.
        saved: the content of a tokenizer.json.
        special: the special token of each role; those of "pad", "unk", "cls" and "sep" must have an id.
        added: tokens that are looked for in a text before all else, and special tokens.
        do_lower_case: whether text is lower-cased; None does what `saved` says.
        template: name of the template it is used with, if that is known.
        config: what else its tokenizer_config.json has to say to transformers.
        source: what to call the file in messages.

    Raises:
        DataError: if a special token has no id, the library can't make a tokenizer of it, or texts would have no ids,
            other ids each time, or no places.
    """

    def __init__(
        self,
        kind: str,
        saved: Mapping[str, Any],
        *,
        special: Mapping[str, str],
        added: Sequence[AddedToken] = (),
        do_lower_case: bool | None = None,
        template: str | None = None,
        config: Mapping[str, Any] | None = None,
        source: str = SAVED,
    ) -> None:
        """Build the tokenizer; see the class for the arguments."""
        self.kind, self.template = kind, template
        self._special, self._config = dict(special), dict(config or {})
        normalizer = _with_casing(saved.get("normalizer"), do_lower_case)
        self.options: Mapping[str, Any] = {"do_lower_case": lower_cases(normalizer)}
        if problem := _problem(saved["model"], normalizer, saved.get("pre_tokenizer")):
            raise DataError(f"{source}: {problem}")
        self._saved = {**saved, "normalizer": normalizer, "added_tokens": [_entry(token) for token in added]}
        self._tokens = _own_tokens(saved, source)
        for token in added:
            self._tokens += [""] * (token.id + 1 - len(self._tokens))
            self._tokens[token.id] = token.content
        self.vocab_size = len(self._tokens)
        ids = {token: id for id, token in enumerate(self._tokens) if token}
        missing = [special.get(role) or role for role in _REQUIRED_ROLES if special.get(role) not in ids]
        if missing:
            raise DataError(f"{source}: lacks the special tokens {', '.join(missing)}; {_RESTORE}")
        self.special_ids = {role: ids[token] for role, token in special.items() if token in ids}
        # Normalizing is done here, which the library's offsets don't survive; so is what comes before it.
        self._normalize = _normalize(normalizer, source)
        self._aligner = Aligner(self._normalize) if normalizer is not None else None
        self._engine = self._without_normalizer(self._saved, added, source)
        written = (token for token in added if token.content not in special.values() and not token.normalized)
        self._looked_for = WrittenTokens(written)
        # What follows an added token is not the beginning of its text, which some put white space before.
        prepends = [step.get("prepend_scheme") for step in _steps(saved.get("pre_tokenizer"))]
        self._inside = None
        if self._looked_for and "first" in prepends:
            self._inside = self._without_normalizer(_never_prepended(self._saved), added, source)
        self._byte_level = _has(saved.get("pre_tokenizer"), "ByteLevel")
        space = _BYTE_SPACE if self._byte_level else _METASPACE
        self._bare = np.array([bool(token) and not token.strip(space) for token in self._tokens])
        self._blank = BlankCharacters(self._is_blank)

    @property
    def tokens(self) -> Sequence[str]:
        """The token of each id, "" for an id without one."""
        return self._tokens

    @property
    def fingerprint(self) -> str:
        """Hash of vocabulary, rules and special tokens: equal for tokenizers that give equal ids."""
        parts = ("model", "normalizer", "pre_tokenizer", "added_tokens")
        content = [{name: self._saved.get(name) for name in parts}, self._special]
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

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
        vocab = self._saved["model"]["vocab"]
        if not isinstance(vocab, list):
            raise DataError(f"a {self.kind} tokenizer, whose pieces are made of each other: none can be left out")
        used = set(self.encode(texts).ids.tolist())
        used |= single_characters(self._tokens, used)
        # What an unknown character costs is counted from the least likely piece of all.
        used.add(min(range(len(vocab)), key=lambda id: vocab[id][1]))
        used.update(id for id, token in enumerate(self._tokens) if _BYTE.fullmatch(token))
        added = {entry["id"] for entry in self._saved["added_tokens"]}
        return used | added | {*self.special_ids.values()} | {self._saved["model"].get("unk_id") or 0}

    def restricted(self, ids: Sequence[int]) -> LibraryTokenizer:
        """Return a tokenizer without the other pieces; see `Tokenizer`."""
        places = {id: place for place, id in enumerate(ids)}
        model = self._saved["model"]
        vocab = [model["vocab"][id] for id in ids if id < len(model["vocab"])]
        saved = {**self._saved, "model": {**model, "vocab": vocab, "unk_id": places[model.get("unk_id") or 0]}}
        saved["post_processor"] = _processor_with(saved.get("post_processor"), places)
        if isinstance(padding := saved.get("padding"), dict) and padding.get("pad_id") in places:
            saved["padding"] = {**padding, "pad_id": places[padding["pad_id"]]}
        config = dict(self._config)
        if isinstance(decoder := config.get("added_tokens_decoder"), dict):
            config["added_tokens_decoder"] = {str(places[int(id)]): entry for id, entry in decoder.items()}
        return LibraryTokenizer(
            self.kind,
            saved,
            special=self._special,
            added=renumbered([AddedToken(**entry) for entry in self._saved["added_tokens"]], ids),
            template=self.template,
            config=config,
        )

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers' AutoTokenizer loads too."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        roles = {f"{role}_token": token for role, token in self._special.items()}
        config = {**self._config, **roles, **self.options}
        (directory / SAVED).write_text(json.dumps(self._saved, ensure_ascii=False) + "\n", "utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def _without_normalizer(self, saved: Mapping[str, Any], added: Sequence[AddedToken], source: str) -> Any:
        """Make the library's tokenizer of normalised texts, which finds no special token with a role in them.

        Nor does it find tokens that are looked for as they are written: in normalised text there may be more of them.
        """
        vocab, roles = saved["model"]["vocab"], set(self._special.values())
        own = {piece for piece, *_ in vocab} if isinstance(vocab, list) else vocab.keys()
        tokens, names = [], {role: _NO_TEXT + role for role in roles}
        for token in added:
            if token.content not in roles and token.normalized:
                normal = self._normalize(token.content)
                names[token.content] = token.content if normal in own else normal
            elif token.content not in roles:
                if token.content in own:
                    continue
                # What is no piece keeps its id under another name.
                names[token.content] = _NO_TEXT + token.content
            tokens.append(replace(token, content=names[token.content], normalized=False, special=False))
        model = dict(saved["model"])
        # A Unigram model finds all pieces of its list, and prefers special ones: their score is 0.
        if isinstance(vocab, list):
            model["vocab"] = [[_NO_TEXT + piece if piece in roles else piece, *rest] for piece, *rest in vocab]
        else:
            model["vocab"] = {_NO_TEXT + piece if piece in roles else piece: id for piece, id in vocab.items()}
            model["unk_token"] = names.get(model.get("unk_token", ""), model.get("unk_token"))
        return _engine({**saved, "normalizer": None, "model": model}, tokens, source)

    def _encode_part(self, texts: list[str], at_start: NDArray[np.bool_]) -> Columns:
        """Return ids, starts and ends of the pieces, and how many each text has."""
        cleaned = self._aligner.apply(texts) if self._aligner is not None else unchanged(texts)
        encoded = self._run(cleaned.texts, at_start)
        counts = np.fromiter(map(len, encoded), np.int64, len(encoded))
        n = int(counts.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encoded), np.int64, n)
        flat = chain.from_iterable(chain.from_iterable(e.offsets for e in encoded))
        edges = np.fromiter(flat, np.int64, 2 * n).reshape(n, 2) + np.repeat(bases(cleaned.texts), counts)[:, None]
        blank = self._blank[code_points(with_separators(texts))]
        starts, ends = trimmed(*cleaned.back(edges[:, 0], edges[:, 1]), blank, self._bare[ids])
        own = np.repeat(bases(texts), counts)
        return ids, starts - own, ends - own, counts

    def _run(self, texts: list[str], at_start: NDArray[np.bool_]) -> list[Any]:
        """Return what the library makes of normalised texts."""
        if self._inside is None or at_start.all():
            return list(self._engine.encode_batch(texts, add_special_tokens=False))
        encoded: list[Any] = [None] * len(texts)
        for engine, rows in ((self._engine, at_start), (self._inside, ~at_start)):
            places = np.flatnonzero(rows).tolist()
            found = engine.encode_batch([texts[place] for place in places], add_special_tokens=False)
            for place, one in zip(places, found, strict=True):
                encoded[place] = one
        return encoded

    def _is_blank(self, char: str) -> bool:
        normal = self._normalize(char)
        # SentencePiece can't tell a text's own "▁" from white space.
        return not (normal if self._byte_level else normal.replace(_METASPACE, " ")).strip()


def _has(part: Any, kind: str) -> bool:
    """Say whether a normalizer or pre_tokenizer is of a kind, or a sequence with one of it."""
    return any(step.get("type") == kind for step in _steps(part))


def _steps(part: Any) -> list[dict[str, Any]]:
    """Return a normalizer or pre_tokenizer as the list of what it does, one after the other."""
    if not isinstance(part, dict):
        return []
    inner = part.get("normalizers") or part.get("pretokenizers")
    if part.get("type") != "Sequence" or not isinstance(inner, list):
        return [part]
    return [step for each in inner for step in _steps(each)]


def lower_cases(normalizer: Any) -> bool:
    """Say whether the normalizer of a tokenizer.json lower-cases text."""
    return any(
        step.get("type") == "Lowercase" or bool(step.get("type") == "BertNormalizer" and step.get("lowercase"))
        for step in _steps(normalizer)
    )


def _problem(model: Mapping[str, Any], normalizer: Any, pre_tokenizer: Any) -> str:
    """Say what about a tokenizer.json, which the library itself takes, leaves texts without ids of their own."""
    if model.get("dropout"):
        return f"its model leaves out merges at random (dropout {model['dropout']}); set dropout to null"
    if _has(normalizer, "ByteLevel"):
        return "its normalizer is ByteLevel; make that its pre_tokenizer"
    if isinstance(model.get("vocab"), list) and model.get("unk_id") is None:
        return 'its model states no "unk_id", and a character without a piece would have no id; state it'
    spelled = model.get("byte_fallback") or _has(pre_tokenizer, "ByteLevel")
    if "merges" in model and model.get("unk_token") is None and not spelled:
        return 'its model states no "unk_token", and characters without a piece would be left out; state it'
    return ""


def _with_casing(normalizer: Any, lower: bool | None) -> Any:
    """Return a normalizer that lower-cases or does not, as it is told; None leaves it as it is."""
    if lower in (None, lower_cases(normalizer)):
        return normalizer
    steps = [step for step in _steps(normalizer) if step.get("type") != "Lowercase"]
    if lower:
        steps.insert(0, {"type": "Lowercase"})
    return {"type": "Sequence", "normalizers": steps}


def _processor_with(part: Any, places: Mapping[int, int]) -> Any:
    """Return a post_processor, or a part of one, with new ids of its special tokens."""
    if isinstance(part, list):
        # BERT's and RoBERTa's name a token as [token, id].
        if len(part) == 2 and isinstance(part[0], str) and isinstance(part[1], int):
            return [part[0], places[part[1]]]
        return [_processor_with(each, places) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: [places[id] for id in value] if name == "ids" else _processor_with(value, places)
        for name, value in part.items()
    }


def _never_prepended(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that puts no white space before a text."""
    pre_tokenizers = [
        {**step, "prepend_scheme": "never"} if "prepend_scheme" in step else step
        for step in _steps(saved["pre_tokenizer"])
    ]
    return {**saved, "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers}}


def _entry(token: AddedToken) -> dict[str, Any]:
    return {"id": token.id, **{name: value for name, value in asdict(token).items() if name != "id"}}


def _own_tokens(saved: Mapping[str, Any], source: str) -> list[str]:
    """Return the pieces of the model by id, "" for an id without one."""
    vocab = saved["model"].get("vocab")
    if isinstance(vocab, list) and all(isinstance(entry, list) and entry for entry in vocab):
        return [str(entry[0]) for entry in vocab]
    if not isinstance(vocab, dict):
        raise DataError(f'{source}: no "vocab" in its "model"; {_RESTORE}')
    ids = {token: as_id(id, token, Path(source)) for token, id in vocab.items()}
    tokens = [""] * (1 + max(ids.values(), default=-1))
    for token, id in ids.items():
        tokens[id] = token
    return tokens


def _engine(saved: Mapping[str, Any], added: Sequence[AddedToken], source: str) -> Any:
    """Make a tokenizer of the library that adds nothing and cuts nothing off.

    Raises:
        DataError: if it can't be made, or does not have the added tokens where the files have them.
    """
    from tokenizers import Tokenizer as Engine

    entries = [_entry(token) for token in added]
    changed = {"added_tokens": entries, "truncation": None, "padding": None, "post_processor": None}
    try:
        engine = Engine.from_str(json.dumps({**saved, **changed}))
    except Exception as error:  # The library raises plain Exceptions.
        raise DataError(f"{source}: the tokenizers library can't read it ({error}); {_RESTORE}") from None
    for token in added:
        if (id := engine.token_to_id(token.content)) != token.id:
            name = token.content.removeprefix(_NO_TEXT)
            raise DataError(f"{source}: the added token {name!r} should have id {id}, not {token.id}; {_RESTORE}")
    return engine


def _normalize(normalizer: Any, source: str) -> Callable[[str], str]:
    """Return what the normalizer of a tokenizer.json does to a text.

    Raises:
        DataError: if it can't be made, or puts something into every text.
    """
    if normalizer is None:
        return str
    model = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}
    engine = _engine({"version": "1.0", "normalizer": normalizer, "model": model}, (), source)
    normalize: Callable[[str], str] = engine.normalizer.normalize_str
    if normalize("ab") != normalize("a") + normalize("b"):
        raise DataError(f"{source}: its normalizer adds to texts; of such tokenizers no place in a text can be told")
    return normalize


def load(files: TokenizerFiles, kind: str, do_lower_case: bool | None) -> LibraryTokenizer:
    """Make the tokenizer of a tokenizer.json and the files beside it.

    Args:
        files: the JSON files.
        kind: what messages call it.
        do_lower_case: whether text is lower-cased; None does what tokenizer.json says.

    Raises:
        DataError: if the files are damaged, lack special tokens, or contradict each other.
    """
    source = str(files.saved_path)
    pieces = {token: id for id, token in enumerate(_own_tokens(files.saved, source)) if token}
    special = files.special_tokens(files.usual_roles(pieces))
    return LibraryTokenizer(
        kind,
        files.saved,
        special=special,
        added=files.added_tokens(pieces, special),
        do_lower_case=do_lower_case,
        template=files.template,
        config=files.config,
        source=source,
    )
