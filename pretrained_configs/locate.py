"""Where a checkpoint is: a path, a short name, or a hub id -> the files on this machine.

huggingface_hub is imported only for a model that is not given by its path.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

from preprocess.base.errors import CheckpointError
from preprocess.base.jsonfile import read_json_object
from pretrained_configs import catalog

#: File names that mean "the weights", best first.
STANDARD_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: Lightning saves PyTorch files as .ckpt; of a TensorFlow prefix of that name there is no file.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".pdparams")

#: The file that, with its data files, makes up a TensorFlow checkpoint "prefix".
TF_INDEX = ".index"

#: Data and index files of a TensorFlow checkpoint; the group is its prefix.
_TF_FILE = re.compile(r"(.+)\.(?:index|data-\d+-of-\d+|meta)")

#: Files that are named like a configuration and describe no architecture.
_OTHER_CONFIGS = (
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "adapter_config.json",
)

#: Files of a training run that end in .bin and hold no weights.
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")

#: Names of directories that say nothing of what lies in them: those of training programs, and a commit of the hub's.
_SAYS_NOTHING = re.compile(
    r"((pytorch|tf|torch|best|final|my)_)?models?|(checkpoint|ckpt|epoch|step|seed)s?([-_=]?\d+|[-_](best|last|final))?"
    r"|weights?|best|last|final|outputs?|out|snapshots?|\d+|[0-9a-f]{40}|pytorch|torch|tf[12]?|tensorflow|hf",
    re.IGNORECASE,
)
#: The same of weights files, without their suffix.
_PLAIN_WEIGHTS = re.compile(r"(\w+_)?model(\.ckpt)?", re.IGNORECASE)

#: Vocabularies, by the names that programs give them; each but merges.txt is enough by itself.
_VOCABULARIES = (
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
)

_SMALL_FILES = (
    "config.json",
    *_VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "mrc_settings.json",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is on this machine, and what it is called.

    Args:
        path: its directory or file; of a TensorFlow checkpoint, the prefix.
        name: what tables call it.
        published: what the catalogue knows of it, if it was asked for by its short name or hub id. A path is whatever
            lies there, also where it is called like a published model.
    """

    path: Path
    name: str
    published: catalog.PublishedModel | None = None

    @property
    def directory(self) -> Path:
        """The directory, of a file the one that it lies in."""
        return self.path if self.path.is_dir() else self.path.parent


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A checkpoint on this machine.

    Args:
        directory: where it lies.
        weights: the file with the weights, or all shards in the order of their names; of a TensorFlow checkpoint,
            its index file and its data files.
        config: its config.json.
        index: the index file of a sharded checkpoint, else None.
    """

    directory: Path
    weights: tuple[Path, ...]
    config: Path
    index: Path | None = None


def locate(name_or_path: str | Path, *, weights: bool = True) -> Place:
    """Find a model on this machine, in the hub's cache, or on the hub: the one place where a name is looked up.

    Args:
        name_or_path: a file or directory, a short name of `catalog`, or a hub id ("owner/name"). A path that exists
            goes before a name.
        weights: whether the weights are needed; without, only configuration and vocabulary are downloaded.

    Raises:
        CheckpointError: if it is none of these, or can't be had.
    """
    text, path = os.fspath(name_or_path), _path(name_or_path)
    if _is_there(path):
        return Place(path, display_name(path))
    published = catalog.find(text)
    if published is not None:
        if not published.hub_id:
            raise CheckpointError(published.how_to_get)
        return Place(_from_hub(published.hub_id, weights), text, published)
    # "owner/name" and nothing else can be a hub id.
    if text.count("/") == 1 and not text.startswith((".", "~", "/")) and not text.endswith("/"):
        if path.suffix in _WEIGHT_SUFFIXES:
            raise CheckpointError(f"{text}: no such file")
        return Place(_from_hub(text, weights), text)
    if "/" in text or "\\" in text or path.suffix in _WEIGHT_SUFFIXES:
        raise CheckpointError(f"{text}: no such file or directory")
    raise CheckpointError(f"{catalog.unknown(text)}; a path or a hub id (owner/name) would do as well")


def published_of(name_or_path: str | Path) -> catalog.PublishedModel | None:
    """Return the published model that `locate` would take a name for, without having its files."""
    return None if _is_there(_path(name_or_path)) else catalog.find(os.fspath(name_or_path))


def _path(name_or_path: str | Path) -> Path:
    return Path(os.path.expanduser(os.fspath(name_or_path)))


def _is_there(path: Path) -> bool:
    return path.exists() or bool(files_of_prefix(path))


def display_name(path: Path) -> str:
    """Return what to call the model at a path: its directory's name, with those above where that says nothing.

    "runs/drcd/seed_1/checkpoint-best" is "drcd/seed_1/checkpoint-best", and a snapshot in the hub's cache has its hub
    id. A file of a name of its own adds that.
    """
    place = Path(os.path.abspath(path))
    own: tuple[str, ...] = ()
    if not place.is_dir():
        match = _TF_FILE.fullmatch(place.name)
        stem = match[1] if match else place.name
        for suffix in (".index.json", *_WEIGHT_SUFFIXES):
            stem = stem.removesuffix(suffix)
        own = () if _PLAIN_WEIGHTS.fullmatch(stem) or place.suffix == ".json" else (stem,)
        place = place.parent
    cached = next((part for part in place.parts if part.startswith("models--")), None)
    if cached is not None and "snapshots" in place.parts:
        return "/".join((*cached.split("--")[1:], *own))
    names = [place.name]
    while place.parent.name and _SAYS_NOTHING.fullmatch(names[0]):
        place = place.parent
        names.insert(0, place.name)
    return "/".join((*names, *own))


def files_of(path: Path) -> LocalCheckpoint:
    """Say which of a model's files are what.

    Args:
        path: a directory, or one weights file or TensorFlow prefix, which is taken with the config.json beside it.

    Raises:
        CheckpointError: if it has no config.json, or no weights file that is clearly meant.
    """
    directory = path if path.is_dir() else path.parent
    chosen = _choose_weights(path) if path.is_dir() else path
    if files := files_of_prefix(chosen):
        return LocalCheckpoint(directory, files, config_file(directory))
    if chosen.name.endswith(".index.json"):
        return LocalCheckpoint(directory, _shards(chosen), config_file(directory), chosen)
    if chosen.suffix not in _WEIGHT_SUFFIXES:
        known = ", ".join(_WEIGHT_SUFFIXES)
        raise CheckpointError(f"{chosen}: not a weights file (known: {known}, and TensorFlow's .index)")
    return LocalCheckpoint(directory, (chosen,), config_file(directory))


def config_file(directory: Path) -> Path:
    """Return the config.json of a model's directory, under whichever of its published names.

    Raises:
        CheckpointError: if there is none, or several that could be meant.
    """
    for name in ("config.json", "bert_config.json"):
        if (directory / name).is_file():
            return directory / name
    configs = sorted(
        path for path in directory.glob("*config*.json") if path.name not in _OTHER_CONFIGS and path.is_file()
    )
    if not configs:
        raise CheckpointError(f"{directory}: no config.json beside the weights; put the model's config.json there")
    if len(configs) > 1:
        names = ", ".join(path.name for path in configs)
        raise CheckpointError(f"{directory}: several configurations ({names}); name the right one config.json")
    return configs[0]


def files_of_prefix(path: Path) -> tuple[Path, ...]:
    """Return the index and data files of a TensorFlow checkpoint named by its prefix or one of its files, else ().

    Raises:
        CheckpointError: if one of the two is missing.
    """
    match = _TF_FILE.fullmatch(path.name)
    prefix = path.with_name(match[1]) if match else path
    index = prefix.with_name(prefix.name + TF_INDEX)
    data = tuple(
        sorted(p for p in path.parent.glob(f"{glob.escape(prefix.name)}.data-*") if _TF_FILE.fullmatch(p.name))
    )
    if not index.is_file() and data:
        raise CheckpointError(f"{prefix}: a TensorFlow checkpoint without its {index.name}; copy that file there too")
    if index.is_file() and not data:
        raise CheckpointError(f"{prefix}: a TensorFlow checkpoint without its .data files; copy them there too")
    return (index, *data) if data else ()


def _choose_weights(directory: Path) -> Path:
    for name in STANDARD_WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    if latest := _latest_tf_checkpoint(directory):
        return latest
    weights = sorted(
        path
        for path in directory.iterdir()
        if path.suffix in (*_WEIGHT_SUFFIXES, TF_INDEX) and path.name not in _NO_WEIGHTS and path.is_file()
    )
    if len(weights) == 1:
        return weights[0]
    if weights:
        names = ", ".join(path.name for path in weights)
        raise CheckpointError(f"{directory}: several weights files ({names}); name the one you mean")
    if stray := next(directory.glob("*.data-*-of-*"), None):
        files_of_prefix(stray)
    if trained := sorted(path.parent for path in directory.glob("seed_*/*/config.json")):
        raise CheckpointError(f"{directory}: a run directory; give one of its checkpoints, such as {trained[0]}")
    held = ", ".join(sorted(path.name for path in directory.iterdir())[:12]) or "nothing"
    known = ", ".join((*STANDARD_WEIGHTS, "a TensorFlow checkpoint"))
    raise CheckpointError(f"{directory}: no weights file ({known}); it holds {held}; give the model's directory")


def _latest_tf_checkpoint(directory: Path) -> Path | None:
    """Return the prefix that TensorFlow's "checkpoint" file names, by its last part: directories get moved."""
    state = directory / "checkpoint"
    if not state.is_file():
        return None
    text = state.read_text(encoding="utf-8-sig", errors="replace")
    named = re.search(r'^model_checkpoint_path: "([^"]+)"', text, re.M)
    if named is None:
        return None
    prefix = directory / re.split(r"[/\\]", named[1])[-1]
    return prefix if files_of_prefix(prefix) else None


def weight_map(index: Path) -> dict[str, str]:
    """Return tensor name -> file name of a sharded checkpoint's index.

    Raises:
        CheckpointError: if the file is not such an index.
    """
    entries = read_json_object(index).get("weight_map")
    if not isinstance(entries, dict) or not entries or not all(isinstance(file, str) for file in entries.values()):
        raise CheckpointError(f'{index}: no "weight_map" of tensor names to files; download it again')
    return entries


def _shards(index: Path) -> tuple[Path, ...]:
    names = sorted(set(weight_map(index).values()))
    # A shard lies beside its index; a name with a directory in it could point anywhere.
    absent = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{index}: shards missing: {', '.join(absent)}; copy them there too")
    return tuple(index.parent / name for name in names)


def _from_hub(repo_id: str, weights: bool) -> Path:
    """Return the snapshot in the hub's cache if it is complete, else download it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    cached: Path | None
    try:
        cached = Path(snapshot_download(repo_id, local_files_only=True))
    except HFValidationError:
        raise CheckpointError(f"{repo_id!r} is not a file or directory, and can't be a hub id (owner/name)") from None
    except LocalEntryNotFoundError:
        cached = None
    if cached is not None and _complete(cached, weights):
        return cached
    try:
        snapshot = Path(snapshot_download(repo_id, allow_patterns=list(_SMALL_FILES)))
        for name in STANDARD_WEIGHTS if weights else ():
            if not (snapshot / name).is_file():
                snapshot = Path(snapshot_download(repo_id, allow_patterns=_with_shards(name)))
            if (snapshot / name).is_file():
                break
        return snapshot
    except (RepositoryNotFoundError, GatedRepoError):
        raise CheckpointError(
            f"{repo_id!r} is not a file or directory here, and not an open model on the hub"
        ) from None
    except Exception as error:  # A lost connection surfaces as whatever the hub's HTTP library of the day raises.
        if cached is not None:
            return cached
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{repo_id!r} is not on this machine and can't be downloaded ({reason}); "
            "download it where there is a network and give its directory"
        ) from None


def _complete(snapshot: Path, weights: bool) -> bool:
    # Whoever loaded only the model left a snapshot without a vocabulary.
    has_vocabulary = any((snapshot / name).is_file() for name in _VOCABULARIES)
    if not weights:
        return has_vocabulary and (snapshot / "config.json").is_file()
    try:
        return has_vocabulary and bool(files_of(snapshot).weights)
    except CheckpointError:
        return False


def _with_shards(name: str) -> list[str]:
    stem, _, suffix = name.removesuffix(".index.json").rpartition(".")
    return [name, f"{stem}-*-of-*.{suffix}"] if name.endswith(".index.json") else [name]
