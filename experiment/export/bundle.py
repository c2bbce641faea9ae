"""A bundle: an exported model in a directory, with all that it takes to ask it a question."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.backend import Predictor
from experiment.export.forms import FORMS, SUFFIX, Form, predictor
from experiment.export.runtimes import RUNTIMES
from experiment.inputs.model import ModelSource, template_of
from experiment.inputs.settings import FILE_NAME, Settings, read_settings
from experiment.inputs.tokenizer import fitting_tokenizer
from experiment.options.model import TokenizerOptions
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import read_json_object
from preprocess.template import Template
from preprocess.types import HeadSpec, input_names
from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import UNLIMITED
from pretrained_configs.published import format_for, read_config, write_values

#: What the bundle is, for whoever loads it without this toolkit.
MANIFEST = "mrc_export.json"
_CONFIG = "config.json"


@dataclass(frozen=True)
class Bundle:
    """An exported model, found.

    Args:
        path: of the bundle.
        form: of its model.
        config: the architecture.
        do_lower_case: how its tokenizer reads capital letters; None where it has no such choice.
        runtime: what computes its graph unless another one is asked for, one of `runtimes.RUNTIMES`.
        outputs: what its graph returns, by the names of the head's.
        template: how its windows are laid out; None where it is of a version that did not say so.
        published: what the catalogue knows of it: nothing.
    """

    path: Path
    form: Form
    config: ModelConfig
    do_lower_case: bool | None
    runtime: str
    outputs: frozenset[str]
    template: Template | None
    published: None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def directory(self) -> Path:
        """Where its vocabulary and settings lie."""
        return self.path / self.form.assets

    def predictor(self, runtime: str = "", precision: str = "fp32") -> Predictor:
        """Load its model.

        Args:
            runtime: what computes its graph; "" for its own.
            precision: in which it does.

        Raises:
            UsageError, CheckpointError: if what it takes is not installed, or a file is damaged.
        """
        return predictor(self.form, self.form.load(self.path, runtime or self.runtime, precision))


def read_bundle(name_or_path: str | Path) -> Bundle | None:
    """Find a bundle; None where the name is none of one.

    Raises:
        UsageError, CheckpointError: if a file of it is damaged.
    """
    path = Path(name_or_path)
    if not (path / MANIFEST).is_file():
        return None
    values = read_json_object(path / MANIFEST, UsageError, "export the model again")
    form = FORMS.get(str(values.get("form")))
    if form is None:
        raise UsageError(f"{path / MANIFEST}: a form of a newer version ({values.get('form')!r}); export it again")
    tokenizer = values.get("tokenizer")
    options = tokenizer if isinstance(tokenizer, dict) else {}
    runtime = str(values.get("runtime", next(iter(RUNTIMES))))
    if runtime not in RUNTIMES:
        raise UsageError(f"{path / MANIFEST}: computed by what a newer version knows ({runtime!r}); export it again")
    try:
        template = Template(**values["template"]) if "template" in values else None
    except TypeError as error:
        raise UsageError(f"{path / MANIFEST}: not a template of windows ({error}); export the model again") from None
    config = read_config(path / form.assets / _CONFIG)
    outputs = frozenset(str(name).removesuffix(SUFFIX) for name in values.get("outputs") or ())
    return Bundle(path, form, config, options.get("do_lower_case"), runtime, outputs, template)


def exported_source(bundle: Bundle, options: TokenizerOptions) -> ModelSource:
    """Add the tokenizer to a bundle.

    Raises:
        UsageError, DataError, CheckpointError: if it is missing or does not fit.
    """
    tokenizer = fitting_tokenizer(options.tokenizer_name or bundle.directory, options.do_lower_case, bundle.config)
    template = bundle.template or template_of(bundle.config, tokenizer.tokenizer, read_settings(bundle.directory))
    return ModelSource(bundle.name, None, bundle.config, tokenizer, template)


@contextmanager
def assets(source: ModelSource, settings: Settings | None) -> Iterator[list[Path]]:
    """Yield the files that go along with a model: configuration, tokenizer, and settings where it has them."""
    checkpoint = source.checkpoint
    assert checkpoint is not None, "what is exported has weights"
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        write_json(directory / _CONFIG, write_values(source.config, format_for(source.config, "native")))
        source.tokenizer.save(directory)
        if settings is not None and settings.joint:  # of its tasks one alone comes along
            write_json(directory / FILE_NAME, settings.as_json())
        elif (checkpoint.directory / FILE_NAME).is_file():
            (directory / FILE_NAME).write_bytes((checkpoint.directory / FILE_NAME).read_bytes())
        yield sorted(directory.iterdir())


def max_length(config: ModelConfig) -> int | None:
    """Return the longest input, in tokens; None where there is no limit."""
    limit = config.family.usable_length(config)
    return limit if limit < UNLIMITED else None


def write_manifest(
    directory: Path, name: str, source: ModelSource, head: HeadSpec, versions: Mapping[str, str], check: Any
) -> None:
    """Write what a bundle is.

    Args:
        directory: of the bundle.
        name: of its form.
        source: the model that was exported.
        head: of the model.
        versions: of the packages that wrote it.
        check: what was found when its answers were compared, as JSON values; None where they were not.
    """
    form, config, tokenizer = FORMS[name], source.config, source.tokenizer
    manifest = {
        "form": name,
        "entry": form.entry,
        "inputs": dict.fromkeys(input_names(head), form.dtype),
        "outputs": {
            f"{output.name}{SUFFIX}": {"reads": output.reads, "size": output.size, "loss": output.loss}
            for output in head.outputs
        },
        "max_length": max_length(config),
        "template": source.template.as_json(),
        "special_ids": dict(tokenizer.special_ids),
        "tokenizer": {**tokenizer.options, "fingerprint": tokenizer.fingerprint},
        "assets": form.assets,
        "model": source.name,
        "weights_sha256": source.checkpoint_sha256,
        "versions": dict(versions),
        "check": check,
    }
    write_json(directory / MANIFEST, manifest)
