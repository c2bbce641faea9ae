"""A checkpoint, found and understood once: from here on it is handed on as a value, and nobody asks for its name."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import CheckpointError
from pretrained_configs.catalog import PublishedModel
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import Tensors, open_tensors
from pretrained_configs.locate import LocalCheckpoint, files_of, locate
from pretrained_configs.namemap import MAY_BE_FRESH, LazyTensor, NameMap
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import misstated, read_values, recognise, spare, stated_values
from pretrained_configs.report import LoadReport, MisfitError, Shape
from pretrained_configs.wrappers import Wrapping, common_prefixes, wrappings

#: How the names of a head's parameters begin.
_HEAD = "head."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine, understood.

    Args:
        files: where it is.
        config: its architecture, as it is computed: what the user says of the activation is in it.
        namemap: the format of its weights.
        wrapping: how the names of its tensors are read.
        name: what tables call it.
        published: what the catalogue knows of it, if it was asked for by its short name or hub id.
        stamps: size and time of its weights' files, when they were understood.
        misstated: a line: where its config.json calls it what it is not; "" where it does not.
        filled_by: projection of a model's head -> the one of this checkpoint that fills it; those that are not named
            are not filled. None: each is filled by the one of its name.
    """

    files: LocalCheckpoint
    config: ModelConfig
    namemap: NameMap
    wrapping: Wrapping
    name: str
    published: PublishedModel | None
    stamps: tuple[tuple[int, int], ...]
    misstated: str = ""
    filled_by: Mapping[str, str] | None = None

    @property
    def directory(self) -> Path:
        """Where its configuration, vocabulary and settings lie."""
        return self.files.directory

    @contextmanager
    def open(self) -> Iterator[dict[str, LazyTensor]]:
        """Open its tensors, by their published names; values are read one tensor at a time, while the context lasts.

        Raises:
            CheckpointError: as `formats.reader.open_tensors`.
        """
        with open_tensors(self.files) as stored:
            # Whoever has hashed it, or has seen which tensors it holds, relies on its being the same.
            if _stamps(self.files) != self.stamps:
                raise CheckpointError(
                    f"{self.files.weights[0]}: has changed since it was first read; start again when nothing writes "
                    "to it any more"
                )
            try:
                yield _read_by(self.wrapping, stored)
            except MisfitError as error:
                if not self.wrapping.taken_off:
                    raise
                raise MisfitError(f"{error} ({self.wrapping})") from None

    def heads(self) -> dict[str, int]:
        """Return the rows of each task head's matrix that it has for a model, by the head's name there.

        Raises:
            CheckpointError: as `open`.
        """
        with self.open() as source:
            held = self.namemap.heads_in(source)
        filled_by = {name: name for name in held} if self.filled_by is None else self.filled_by
        return {ours: held[there] for ours, there in filled_by.items()}

    def held(self) -> dict[str, Shape]:
        """Return the parameters that it should hold, by our names, with the heads that it does hold.

        Raises:
            CheckpointError: as `open`.
        """
        with self.open() as source:
            pooled = self.namemap.shape_in(source, "pooler.weight") is not None
            heads, given = self.namemap.heads_in(source), self.namemap.given_in(source)
            return parameter_shapes(self.config, pooled=pooled, heads=heads, given=given)

    @contextmanager
    def stream(
        self, wanted: Mapping[str, Shape], *, fresh_head: bool
    ) -> Iterator[tuple[LoadReport, Iterator[tuple[str, NDArray[np.float32]]]]]:
        """Load one parameter at a time, after all of them were checked by names and shapes.

        Args:
            wanted: our name -> shape, for every parameter of the model.
            fresh_head: whether the task's head (and a pooler) may be missing from the checkpoint: yes before
                fine-tuning, no before prediction.

        Raises:
            CheckpointError: if a source tensor is unaccounted for, or a parameter can't be filled.
        """
        asked = _Asked.of(wanted, self.filled_by)
        with self.open() as source:
            report, tensors = self.namemap.stream(
                source, asked.shapes, may_be_fresh=_may_be_fresh(fresh_head), spare=spare(self.config)
            )
            filled = ((ours, values) for name, values in tensors for ours in asked.ours[name])
            yield self._noted(asked.reported(report, fresh_head)), filled

    def check(self, wanted: Mapping[str, Shape], *, fresh_head: bool) -> LoadReport:
        """Say what `stream` would do, without reading a tensor.

        Raises:
            CheckpointError: as `stream`.
        """
        asked = _Asked.of(wanted, self.filled_by)
        with self.open() as source:
            report = self.namemap.report(
                source, asked.shapes, may_be_fresh=_may_be_fresh(fresh_head), spare=spare(self.config)
            )
            report.check()
        return self._noted(asked.reported(report, fresh_head))

    def _noted(self, report: LoadReport) -> LoadReport:
        report.notes += [note for note in (str(self.wrapping), self.misstated) if note]
        return report


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a checkpoint is asked for where its heads are called otherwise than a model's.

    Args:
        shapes: its name of a parameter (among ours) -> shape.
        ours: that name -> what the model calls those that it fills.
        fresh: parameters of the model that it is not asked for.
    """

    shapes: dict[str, Shape]
    ours: Mapping[str, list[str]]
    fresh: list[str]

    @classmethod
    def of(cls, wanted: Mapping[str, Shape], heads: Mapping[str, str] | None) -> _Asked:
        shapes: dict[str, Shape] = {}
        ours: defaultdict[str, list[str]] = defaultdict(list)
        fresh = []
        for name, shape in wanted.items():
            there: str | None = name
            if heads is not None and name.startswith(_HEAD):
                projection, _, rest = name.removeprefix(_HEAD).partition(".")
                there = f"{_HEAD}{heads[projection]}.{rest}" if projection in heads else None
            if there is None:
                fresh.append(name)
            else:
                shapes[there] = shape
                ours[there].append(name)
        return cls(shapes, ours, fresh)

    def reported(self, report: LoadReport, fresh_head: bool) -> LoadReport:
        """Say what became of the model's parameters by its own names for them."""
        mapped = report.mapped
        report.mapped = [
            (ours, theirs, shape, dtype) for name, theirs, shape, dtype in mapped for ours in self.ours[name]
        ]
        report.fresh += self.fresh
        assert fresh_head or not self.fresh, "who predicts has a head"
        return report


def read_checkpoint(name_or_path: str | Path, hidden_act: str | None = None) -> Checkpoint:
    """Find a checkpoint, recognise its format and read its configuration; its tensors' values are not read.

    Args:
        name_or_path: directory, weights file, TensorFlow prefix, short name or hub id.
        hidden_act: one of `config.ACTIVATIONS`, to overrule what the checkpoint says.

    Raises:
        CheckpointError: if it can't be had, or is not a model that we compute.
    """
    place = locate(name_or_path)
    files = files_of(place.path)
    values = stated_values(files.config)
    stamps = _stamps(files)  # before it is read
    with open_tensors(files) as tensors:
        if not tensors:
            raise CheckpointError(f"{files.weights[0]}: holds no tensors; give the model's weights file")
        wrapping, namemap = _recognised(tensors, values, files, hidden_act)
        config = read_values(values, namemap, str(files.config), _read_by(wrapping, tensors), hidden_act)
    return Checkpoint(
        files, config, namemap, wrapping, place.name, place.published, stamps, misstated(namemap, values)
    )


def _stamps(files: LocalCheckpoint) -> tuple[tuple[int, int], ...]:
    """Return size and time of modification of each file; zeros for one that is missing, which its reader refuses."""
    stats = [path.stat() if path.exists() else None for path in files.weights]
    return tuple((stat.st_size, stat.st_mtime_ns) if stat is not None else (0, 0) for stat in stats)


def _recognised(
    tensors: Tensors, values: Mapping[str, object], files: LocalCheckpoint, hidden_act: str | None
) -> tuple[Wrapping, NameMap]:
    """Find the format, and what to take off the names for it: no more than fills the encoder best."""
    refused: CheckpointError | None = None
    fits: list[tuple[int, Wrapping, NameMap]] = []
    for way in wrappings(tensors):
        try:
            namemap = recognise(way.stored, values, files.weights[0])
        except CheckpointError as error:
            refused = refused or error
            continue
        fits.append((_n_missing(way, namemap, tensors, values, hidden_act), way, namemap))
        if fits[-1][0] == 0:
            break
    if fits:
        _, way, namemap = min(fits, key=lambda fit: fit[0])
        return way, namemap
    assert refused is not None, "there is at least one way"
    shared = [prefix for prefix in common_prefixes(tensors) if all(name.startswith(prefix) for name in tensors)]
    raise CheckpointError(f"{refused}{f' (all names begin with {shared[-1]!r})' if shared else ''}") from None


def _n_missing(
    way: Wrapping, namemap: NameMap, tensors: Tensors, values: Mapping[str, object], hidden_act: str | None
) -> int:
    """Count the parameters of the encoder that are not there if the names are read this way."""
    source = _read_by(way, tensors)
    try:
        config = read_values(values, namemap, "", source, hidden_act)
    except CheckpointError:
        return sys.maxsize  # the caller meets it again, if it is to be this way
    return len(namemap.report(source, parameter_shapes(config, pooled=False)).missing)


def _read_by(wrapping: Wrapping, tensors: Tensors) -> dict[str, LazyTensor]:
    return {name: tensors[key] for name, key in wrapping.stored.items()}


def _may_be_fresh(fresh_head: bool) -> tuple[str, ...]:
    return MAY_BE_FRESH if fresh_head else ()
