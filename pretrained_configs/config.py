"""The architecture of a model, free of any framework, and where it is read from and written to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message names the file, what was found, what was expected and the remedy."""


#: Activations of the feed-forward block: exact (erf) GELU, its tanh approximation, and ReLU.
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")

#: The families of models that can be built.
MODEL_TYPES = ("bert",)

#: What transformers calls an activation -> what we call it; "gelu" is the erf form there.
_FROM_TRANSFORMERS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_TO_TRANSFORMERS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}

#: Our head -> the class of transformers that holds the same parameters.
_ARCHITECTURES = {None: "BertModel", "span": "BertForQuestionAnswering"}

#: Keys of transformers that change what a model computes -> the only value that we compute.
_ONLY = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture of an encoder.

    The defaults are those of transformers' BertConfig for keys that a config.json may leave out.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: width of every layer; a multiple of num_attention_heads.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: number of attention heads per layer.
        intermediate_size: width of the feed-forward block.
        model_type: the family, one of `MODEL_TYPES`.
        hidden_act: activation of the feed-forward block, one of `ACTIVATIONS`: "gelu" is the exact (erf) form,
            "gelu_tanh" the tanh approximation.
        max_position_embeddings: rows of the position table: the longest input, in tokens.
        type_vocab_size: rows of the token-type (segment) table.
        layer_norm_eps: added to the variance in every LayerNorm.
        hidden_dropout_prob: dropout after embeddings and blocks, while training.
        attention_probs_dropout_prob: dropout on the attention weights, while training.
        initializer_range: standard deviation of fresh weights.
        pad_token_id: vocabulary id that fills short inputs.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    model_type: str = "bert"
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            CheckpointError: naming every field whose value can't be meant.
        """
        problems = _problems(self)
        if problems:
            raise CheckpointError("; ".join(problems))

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any], source: str) -> ModelConfig:
        """Read what transformers means by a config.json.

        Args:
            values: the parsed file; without "model_type" (the original bert_config.json has none) taken for a BERT.
            source: what to call the file in errors.

        Raises:
            CheckpointError: for missing keys, wrong types, and models that we would compute wrongly.
        """
        problems = []
        model_type = values.get("model_type", "bert")
        if model_type not in MODEL_TYPES:
            raise CheckpointError(f"{source}: {_unknown('model_type', model_type, MODEL_TYPES)}")
        missing = [name for name in _REQUIRED if values.get(name) is None]
        if missing:
            problems.append(f"missing {', '.join(repr(name) for name in missing)}")
        for name, only in _ONLY.items():
            if values.get(name) not in (None, only):
                problems.append(f"{name} {values[name]!r} is not supported (only {only!r})")
        known = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        known["model_type"] = model_type
        act = known.get("hidden_act", "gelu")
        if not isinstance(act, str) or act not in _FROM_TRANSFORMERS:
            problems.append(_unknown("hidden_act", act, tuple(_FROM_TRANSFORMERS)))
        if not problems:
            known["hidden_act"] = _FROM_TRANSFORMERS[act]
            try:
                return cls(**known)
            except CheckpointError as error:
                problems.append(str(error))
        raise CheckpointError(f"{source}: {'; '.join(problems)}")

    def to_transformers(self, head: str | None = None) -> dict[str, Any]:
        """Write the config.json that makes transformers compute the same.

        Args:
            head: None for the bare encoder, "span" for the span head.

        Raises:
            CheckpointError: if transformers has no class with such a head.
        """
        if head not in _ARCHITECTURES:
            raise CheckpointError(_unknown("head", head, [name for name in _ARCHITECTURES if name]))
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["hidden_act"] = _TO_TRANSFORMERS[self.hidden_act]
        return {"architectures": [_ARCHITECTURES[head]], **values}


_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def read_config(path: str | Path, hidden_act: str | None = None) -> ModelConfig:
    """Read a config.json of transformers.

    Args:
        path: the file, or a directory that holds a config.json (or bert_config.json).
        hidden_act: one of `ACTIVATIONS`, to overrule what the file says.

    Raises:
        CheckpointError: if the file is missing, no JSON, or describes a model that we can't compute.
    """
    path = Path(path)
    if path.is_dir():
        names = [name for name in ("config.json", "bert_config.json") if (path / name).is_file()]
        if not names:
            raise CheckpointError(f"{path}: no config.json; a checkpoint needs one beside its weights")
        path = path / names[0]
    values = read_json_object(path)
    if hidden_act is None:
        return ModelConfig.from_transformers(values, str(path))
    if hidden_act not in ACTIVATIONS:
        raise CheckpointError(_unknown("hidden_act", hidden_act, ACTIVATIONS))
    # The file's own activation is dropped first, so that one we don't know can be overruled too.
    config = ModelConfig.from_transformers({**values, "hidden_act": None}, str(path))
    return replace(config, hidden_act=hidden_act)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        CheckpointError: if it is missing, can't be read or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: a JSON object was expected, found a {type(values).__name__}")
    return values


def did_you_mean(name: object, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return "; did you mean …?" where a known name is close, and "" elsewhere."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(what: str, value: object, known: list[str] | tuple[str, ...]) -> str:
    supported = ", ".join(repr(name) for name in known)
    return f"{what} {value!r} is not supported (supported: {supported}){did_you_mean(value, known)}"


def _problems(config: ModelConfig) -> list[str]:
    """List every field whose type or range is wrong, and what does not fit together."""
    problems = []
    for f in fields(config):
        value = getattr(config, f.name)
        if f.type == "str":
            continue
        # bool is an int to Python; "hidden_size": true is a mistake all the same.
        wanted = (int,) if f.type == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "an integer" if f.type == "int" else "a number"
            problems.append(f"{f.name} {value!r} is not {kind}")
        elif f.name in _PROBABILITIES and not 0 <= value < 1:
            problems.append(f"{f.name} {value!r} is not in [0, 1)")
        elif f.name not in _PROBABILITIES and f.name != "pad_token_id" and not 0 < value < float("inf"):
            problems.append(f"{f.name} {value!r} is not positive")
    if config.model_type not in MODEL_TYPES:
        problems.append(_unknown("model_type", config.model_type, MODEL_TYPES))
    if config.hidden_act not in ACTIVATIONS:
        problems.append(_unknown("hidden_act", config.hidden_act, ACTIVATIONS))
    if not problems and config.hidden_size % config.num_attention_heads:
        heads = config.num_attention_heads
        problems.append(f"hidden_size {config.hidden_size} is not divisible by num_attention_heads {heads}")
    if not problems and not 0 <= config.pad_token_id < config.vocab_size:
        problems.append(f"pad_token_id {config.pad_token_id} is not in the vocabulary of {config.vocab_size}")
    return problems
