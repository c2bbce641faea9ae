"""What the files beside a vocabulary say: options, special and added tokens, in transformers 4's and 5's layouts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe, read_json_object
from preprocess.tokenizers.added import AddedToken

#: What special tokens are for; files call the token of a role "cls_token".
ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
#: Where windows of question and context are laid out alike, by the name that files give to the tokenizer's class.
TEMPLATES = {
    "bert": ("AlbertTokenizer", "BertTokenizer", "ConvBertTokenizer", "ElectraTokenizer", "ErnieTokenizer"),
    "roberta": ("RobertaTokenizer", "XLMRobertaTokenizer"),
    "xlnet": ("CpmTokenizer", "XLNetTokenizer"),
}
#: What special tokens are called where no file says it, by role, the first that a vocabulary has: BERT's and
#: ALBERT's names, XLNet's, RoBERTa's and XLM-R's.
USUAL_ROLES = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("<mask>", "[MASK]"),
    "bos": ("<s>",),
    "eos": ("</s>",),
}
#: The parts of pairs of texts, by template: what tokenizer.json's post_processor puts together.
_PAIRS = {
    "bert": ("cls", "A", "sep", "B", "sep"),
    "roberta": ("cls", "A", "sep", "sep", "B", "sep"),
    "xlnet": ("A", "sep", "B", "sep", "cls"),
}
_PROCESSORS = {"BertProcessing": "bert", "RobertaProcessing": "roberta"}
SAVED = "tokenizer.json"
_CONFIG, _SPECIAL, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
#: Special tokens without a role that users have added: transformers 4's and 5's key.
_FURTHER_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
#: More rows than any embedding has, and few enough for a list.
_MAX_ID = 2**24 - 1
_RESTORE = "restore it from the model's publisher"


@dataclass(frozen=True)
class TokenizerFiles:
    """The JSON files of a tokenizer, {} for each that is not there.

    Args:
        directory: where they lie.
        config: tokenizer_config.json.
        saved: tokenizer.json, or the file that was given in its place.
        saved_path: of `saved`.
        special: special_tokens_map.json.
        added: added_tokens.json.
    """

    directory: Path
    config: Mapping[str, Any]
    saved: Mapping[str, Any]
    saved_path: Path
    special: Mapping[str, Any]
    added: Mapping[str, Any]

    @classmethod
    def of(cls, directory: Path, saved_path: Path | None = None) -> TokenizerFiles:
        """Read a directory's files.

        Raises:
            DataError: if one is not a JSON object.
        """
        saved_path = saved_path or directory / SAVED
        config, special, added = (_read_object(directory / name) for name in (_CONFIG, _SPECIAL, _ADDED))
        return cls(directory, config, _read_object(saved_path), saved_path, special, added)

    @property
    def json_type(self) -> str:
        """The kind of model that tokenizer.json holds, "" if there is none."""
        model = self.saved.get("model")
        if not isinstance(model, dict):
            return ""
        # Files of before 2020 have no "type"; only Unigram's vocabulary is a list, and only BPE has merges.
        vocabulary = model.get("vocab")
        untyped = "Unigram" if isinstance(vocabulary, list) else "BPE" if "merges" in model else "WordPiece"
        return str(model.get("type") or untyped)

    @property
    def template(self) -> str | None:
        """Name of the template that this tokenizer is used with; None where the files state none that is known.

        How tokenizer.json puts pairs of texts together says it, else the class that tokenizer_config.json names.
        """
        if (stated := self._processed()) is not None:
            return stated
        return next((template for template, classes in TEMPLATES.items() if self.tokenizer_class in classes), None)

    @property
    def tokenizer_class(self) -> str:
        """What tokenizer_config.json calls the tokenizer's class, without "Fast"; "" where it does not."""
        return str(self.config.get("tokenizer_class") or "").removesuffix("Fast")

    def _processed(self) -> str | None:
        """Return the template of tokenizer.json's post_processor, None where there is none that is known."""
        processor = self.part("post_processor")
        for step in _list(processor.get("processors"), self.saved_path, "processors") or [processor]:
            if not isinstance(step, dict):
                continue
            if (named := _PROCESSORS.get(str(step.get("type")))) is not None:
                return named
            if isinstance(pair := step.get("pair"), list):
                shape = _shape([_part_of_pair(part) for part in pair])
                return next((name for name, parts in _PAIRS.items() if _shape(parts) == shape), None)
        return None

    def usual_roles(self, ids: Collection[str]) -> dict[str, str]:
        """Return the usual special token of each role that a vocabulary has, and those added to it.

        Args:
            ids: its pieces.
        """
        added = {str(entry.get("content")) for entry in self._saved_added() if isinstance(entry, dict)}
        found = {
            role: next((name for name in names if name in added or name in ids), None)
            for role, names in USUAL_ROLES.items()
        }
        return {role: name for role, name in found.items() if name is not None}

    def _saved_added(self) -> list[Any]:
        return _list(self.saved.get("added_tokens"), self.saved_path, "added_tokens")

    def part(self, name: str) -> Mapping[str, Any]:
        """Return an object of tokenizer.json, {} where it has none.

        Raises:
            DataError: if it is something else.
        """
        return _object(self.saved.get(name), self.saved_path, name)

    def switch(self, key: str, saved_key: str = "") -> bool | None:
        """Return an option that is true or false, None where no file has it.

        Args:
            key: its name in tokenizer_config.json.
            saved_key: its name in tokenizer.json's normalizer, which is asked next; "" where it has none.

        Raises:
            DataError: if it is something else.
        """
        normalizer = self.part("normalizer")
        stated = ((self.directory / _CONFIG, key, self.config), (self.saved_path, saved_key, normalizer))
        for path, name, values in stated:
            if values.get(name) is not None:
                return _boolean(values[name], path, name)
        return None

    def special_tokens(self, default: Mapping[str, str]) -> dict[str, str]:
        """Return the special token of each role.

        Args:
            default: what stands for roles that no file mentions.

        Raises:
            DataError: if a file gives something else than a token.
        """
        tokens = dict(default)
        for path, values in ((self.directory / _CONFIG, self.config), (self.directory / _SPECIAL, self.special)):
            stated = {role: values.get(f"{role}_token") for role in ROLES}
            tokens |= {role: _content(token, path) for role, token in stated.items() if token is not None}
        return tokens

    def added_tokens(self, ids: Mapping[str, int], roles: Mapping[str, str]) -> list[AddedToken]:
        """Return the tokens that were added to the vocabulary, by id.

        A file's flags count before those of the next: tokenizer_config.json, tokenizer.json, added_tokens.json.
        Special tokens without an id get the ids that come next, as in transformers.

        Args:
            ids: the vocabulary's own pieces and their ids.
            roles: the special token of each role.

        Raises:
            DataError: if an entry is not a token with an id and flags, or contradicts another or the vocabulary.
        """
        special = {content for _, content in self._further_special()}
        tokens: dict[str, AddedToken] = {}
        owners = {index: piece for piece, index in ids.items()}
        for path, token in self._entries(special | set(roles.values())):
            id = tokens[token.content].id if token.content in tokens else ids.get(token.content, token.id)
            if id != token.id or owners.setdefault(id, token.content) != token.content:
                other = f"{owners.get(token.id)!r} has it" if id == token.id else f"elsewhere it is {id}"
                raise DataError(
                    f"{path}: the added token {token.content!r} has id {token.id}, but {other}; "
                    "take all files of the tokenizer from one place"
                )
            tokens.setdefault(token.content, token)
        for _, content in self._further_special():
            if content not in tokens:
                id = ids.get(content, max(owners, default=-1) + 1)
                owners[id] = content
                tokens[content] = AddedToken(content, id, normalized=False, special=True)
        return sorted(tokens.values(), key=lambda token: token.id)

    def _entries(self, special: set[str]) -> Iterator[tuple[Path, AddedToken]]:
        path = self.directory / _CONFIG
        for id, entry in _object(self.config.get("added_tokens_decoder"), path, "added_tokens_decoder").items():
            yield path, _token(entry, int(id) if str(id).isdecimal() else id, path)
        for entry in self._saved_added():
            yield (
                self.saved_path,
                _token(entry, _object(entry, self.saved_path, "an added token").get("id"), self.saved_path),
            )
        path = self.directory / _ADDED
        for content, id in self.added.items():
            marks = {"normalized": content not in special, "special": content in special}
            yield path, _token({"content": content, **marks}, id, path)

    def _further_special(self) -> Iterator[tuple[Path, str]]:
        """Yield the special tokens without a role."""
        for path, values in ((self.directory / _CONFIG, self.config), (self.directory / _SPECIAL, self.special)):
            for key in _FURTHER_SPECIAL:
                entries = values.get(key) or []
                if not isinstance(entries, list | dict):
                    raise DataError(f"{path}: {key} must be a list, found {describe(entries)}; {_RESTORE}")
                # transformers 5 also keeps them by a name of their own.
                for entry in entries.values() if isinstance(entries, dict) else entries:
                    yield path, _content(entry, path)


def _part_of_pair(part: Any) -> str:
    """Return "A" or "B" for a text of a pair, else the special token in brackets."""
    kind, content = next(iter(part.items())) if isinstance(part, dict) and part else ("", {})
    name = str(content.get("id") if isinstance(content, dict) else "")
    return name if kind == "Sequence" else f"[{name}]"


def _shape(parts: Sequence[str]) -> list[int | str]:
    """Return the parts of a pair with numbers for its special tokens, in order of appearance."""
    special = list(dict.fromkeys(part for part in parts if part not in ("A", "B")))
    return [part if part in ("A", "B") else special.index(part) for part in parts]


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} where there is no file."""
    return read_json_object(path, DataError, _RESTORE) if path.is_file() else {}


def _object(value: Any, path: Path, what: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{path}: {what} must be an object, found {describe(value)}; {_RESTORE}")
    return value or {}


def _list(value: Any, path: Path, what: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise DataError(f"{path}: {what} must be a list, found {describe(value)}; {_RESTORE}")
    return value or []


def _boolean(value: Any, path: Path, key: str) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"{path}: {key} is {value!r}; it must be true or false, without quotes")
    return value


def _content(token: Any, path: Path) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise DataError(
            f"{path}: a token must be a string or an object with its content, found {describe(token)}; {_RESTORE}"
        )
    return content


def as_id(value: Any, token: str, path: Path) -> int:
    """Return the id that a file gives to a token.

    Raises:
        DataError: if it can't be one.
    """
    # bool is a kind of int.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_ID:
        expected = f"an integer from 0 to {_MAX_ID}"
        raise DataError(f"{path}: the id of {token!r} is {value!r}, expected {expected}; {_RESTORE}")
    return value


def _token(entry: Any, id: Any, path: Path) -> AddedToken:
    entry = _object(entry, path, "an added token")
    content = _content(entry, path)
    id = as_id(id, content, path)
    flags = {name: _boolean(entry[name], path, name) for name in _FLAGS if entry.get(name) is not None}
    # Special tokens are looked for as they are written unless a file says otherwise.
    return AddedToken(content, id, **{"normalized": not flags.get("special", False), **flags})
