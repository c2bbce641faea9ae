"""What a published config.json means: it depends on the format of the weights that it belongs to.

"gelu" is the tanh form to Google's TensorFlow programs, the erf form to transformers, and x * sigmoid(1.702 x) to the
reference system's Google ALBERT; an epsilon that one format states is hard-coded in another's program. Each name map
says what holds for its format: "signatures" tell by which tensors and which configuration it is recognised, and
"config" how the configuration's keys translate to `ModelConfig`, in both directions.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from preprocess.base.errors import CheckpointError
from preprocess.base.jsonfile import read_json_object
from preprocess.base.names import unknown
from pretrained_configs import families
from pretrained_configs.config import ACTIVATIONS, ModelConfig
from pretrained_configs.locate import config_file
from pretrained_configs.namemap import SAVED, NameMap, Source
from pretrained_configs.report import fold

#: Who reads what is written: transformers' from_pretrained, the TensorFlow 1 programs of the authors, the reference
#: system's PyTorch programs, and this toolkit alone.
TARGETS = ("transformers", "tf1", "reference", "native")

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

#: Fields that a format's config.json states only where its map names them.
_NOT_EVERYWHERE = {
    "model_type",
    "embedding_size",
    "embedding_projection",
    "layer_norm_type",
    "num_hidden_groups",
    "inner_group_num",
    "ffn_num_groups",
    "position_embedding_type",
    "max_relative_position",
    "task_type_vocab_size",
    "untie_r",
    "clamp_len",
    "start_n_top",
    "end_n_top",
}
_FIELDS = tuple(f.name for f in fields(ModelConfig))
#: Field that means something to some families alone -> its default.
_OWN_DEFAULTS = {f.name: f.default for f in fields(ModelConfig) if f.metadata.get("own")}


def read_config(path: str | Path, hidden_act: str | None = None) -> ModelConfig:
    """Read the configuration of a model without weights.

    Args:
        path: the file, or a directory that holds one.
        hidden_act: one of `ACTIVATIONS`, to overrule what the file says.

    Raises:
        CheckpointError: if the file is missing, not JSON, or describes a model that we can't compute.
    """
    path = Path(path)
    if path.is_dir():
        path = config_file(path)
    values = stated_values(path)
    return read_values(values, format_of_config(values, str(path)), str(path), None, hidden_act)


def stated_values(path: Path) -> dict[str, Any]:
    """Return what a config.json states about its encoder.

    PaddleNLP up to 2.4 puts that inside what its head is made with: {"init_class": …, "init_args": [{…}]}.

    Raises:
        CheckpointError: if the file is missing or not a JSON object.
    """
    values = read_json_object(path)
    while isinstance(inner := values.get("init_args"), list) and inner and isinstance(inner[0], dict):
        values = inner[0]
    return values


def recognise(names: Collection[str], values: Mapping[str, Any], weights: Path) -> NameMap:
    """Say which format a checkpoint has.

    Args:
        names: the stored names of its tensors.
        values: its parsed config.json.
        weights: its weights file.

    Raises:
        CheckpointError: if no format fits.
    """
    ranks = {
        name: max(_fit(signature, names, values, weights) for signature in _signatures(name))
        for name in NameMap.names()
    }
    best = [name for name, rank in ranks.items() if rank == max(ranks.values()) > 0]
    if len(best) == 1:
        return NameMap.load(best[0])
    if best:
        raise CheckpointError(f'{weights}: could be {" or ".join(best)}; state "model_type" in its config.json')
    if all(any(part.startswith(_SLOTS) for part in name.replace(".", "/").split("/")) for name in names):
        raise CheckpointError(f"{weights}: holds an optimizer's state alone, no weights; give the model's file")
    folded = fold(sorted(names))
    listed = ", ".join(folded[:6]) + (f" … ({len(folded)} kinds)" if len(folded) > 6 else "")
    model_type = f"model_type {values['model_type']!r}, " if "model_type" in values else ""
    raise CheckpointError(
        f"{weights}: {model_type}tensors of no known format: {listed} (known formats: {', '.join(NameMap.names())}); "
        f"give the weights of one of {', '.join(families.names())}, or add its format (docs/adding-a-checkpoint.md)"
    )


#: How the names of optimizer variables begin.
_SLOTS = (
    "adam_",
    "Adam",
    "lamb_",
    "beta1_power",
    "beta2_power",
    "global_step",
    "state",
    "param_groups",
    "exp_avg",
    "step",
)


def _signatures(name: str) -> list[Mapping[str, Any]]:
    return list(NameMap.load(name).values["signatures"])


def _fit(signature: Mapping[str, Any], names: Collection[str], values: Mapping[str, Any], weights: Path) -> int:
    """Return 0 where a signature does not fit, else how much it asks for: the more, the surer."""
    if values.get("model_type") not in signature.get("model_types", [values.get("model_type")]):
        return 0
    if "suffixes" in signature and weights.suffix not in signature["suffixes"]:
        return 0
    if any(values.get(key) is not None for key in signature.get("without_keys", ())):
        return 0
    if any(values.get(key) != value for key, value in signature.get("keys", {}).items()):
        return 0
    if not all(fnmatch.filter(names, pattern) for pattern in signature["tensors"]):
        return 0
    return len(signature["tensors"]) + len(signature)


def misstated(namemap: NameMap, values: Mapping[str, Any]) -> str:
    """Say where a config.json calls its model what its weights are not; "" where it does not."""
    noted = (signature for signature in namemap.values["signatures"] if "note" in signature)
    return next((str(s["note"]) for s in noted if values.get("model_type") in s["model_types"]), "")


def _states(values: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Say whether a configuration has what those of one format alone have."""
    keys, stated = about.get("file_keys", ()), about.get("file_values", {})
    if not (keys or stated) or any(values.get(key) is not None for key in about.get("without_keys", ())):
        return False
    return all(key in values for key in keys) and all(values.get(key) == value for key, value in stated.items())


def format_of_config(values: Mapping[str, Any], source: str) -> NameMap:
    """Say which format a configuration without weights is written for.

    Raises:
        CheckpointError: if its model_type is unknown, with the closest.
    """
    for name in NameMap.names():
        if _states(values, NameMap.load(name).values["config"]):
            return NameMap.load(name)
    by_type: dict[str, str] = {}
    for name in NameMap.names():
        for signature in _signatures(name) if name.startswith("transformers_") else ():
            asked = signature.get("keys", {})
            if "note" not in signature and all(values.get(key) == value for key, value in asked.items()):
                types = [t for t in signature.get("model_types", ()) if t is not None and (asked or t not in by_type)]
                by_type |= dict.fromkeys(types, name)
    model_type = values.get("model_type", "bert")
    if not isinstance(model_type, str) or model_type not in by_type:
        raise CheckpointError(f"{source}: {unknown('model_type', model_type, sorted(by_type))}")
    return NameMap.load(by_type[model_type])


def read_values(
    values: Mapping[str, Any],
    namemap: NameMap,
    source: str,
    tensors: Source | None = None,
    hidden_act: str | None = None,
) -> ModelConfig:
    """Translate a configuration.

    Args:
        values: the parsed config.json.
        namemap: the format that it belongs to.
        source: what to call the file in errors.
        tensors: the weights, which show what some configurations leave open.
        hidden_act: one of `ACTIVATIONS`, to overrule what the file says.

    Raises:
        CheckpointError: for missing keys, wrong types, and models that we would compute wrongly.
    """
    if hidden_act is not None and hidden_act not in ACTIVATIONS:
        raise CheckpointError(unknown("hidden_act", hidden_act, ACTIVATIONS))
    about = namemap.values["config"]
    unread = about.get("unread", ())
    stated = {
        about.get("names", {}).get(key, key): v for key, v in values.items() if v is not None and key not in unread
    }
    known = {**about.get("defaults", {}), **{name: stated[name] for name in _FIELDS if name in stated}}
    for name, other in about.get("same_as", {}).items():
        if other in known:
            known.setdefault(name, known[other])
    known |= _measured(about, known, tensors)
    theirs = {ours: name for name, ours in about.get("names", {}).items()}
    missing = [theirs.get(name, name) for name in (*_REQUIRED, *about.get("required", ())) if name not in known]
    problems = [f"missing {', '.join(map(repr, missing))} (take the model's own config.json)"] if missing else []
    for name, only in about.get("only", {}).items():
        if values.get(name) not in (None, only):
            problems.append(f"{name} {values[name]!r} is not supported (only {only!r})")
    problems += _wrong_quotients(about, values, known)
    if "model_type" in about:
        known["model_type"] = about["model_type"]
    known |= about.get("fixed", {})
    acts = about["hidden_act"]
    act = known.get("hidden_act", "gelu")
    if hidden_act is not None:
        known["hidden_act"] = hidden_act
    elif not isinstance(act, str) or act not in acts:
        problems.append(unknown("hidden_act", act, tuple(acts)))
    else:
        known["hidden_act"] = acts[act]
    if not problems:
        try:
            return ModelConfig(**known)
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError(f"{source}: {'; '.join(problems)}")


def _wrong_quotients(about: Mapping[str, Any], values: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Say where a configuration states a width that is not the quotient of two others, which we take it for."""
    problems = []
    for name, (whole, parts) in about.get("quotients", {}).items():
        stated, size, n = values.get(name), known.get(whole), known.get(parts)
        if isinstance(stated, int) and isinstance(size, int) and isinstance(n, int) and stated * n != size:
            problems.append(f"{name} {stated} is not supported (only {whole} {size} / {parts} {n})")
    return problems


def _measured(about: Mapping[str, Any], known: Mapping[str, Any], tensors: Source | None) -> dict[str, Any]:
    """Read off the weights what the configuration does not say; without weights, what the authors' program builds."""
    measured = {}
    for rule in about.get("measured", ()):
        names = fnmatch.filter(tensors, rule["theirs"]) if tensors is not None else []
        if tensors is None and rule["field"] == "embedding_projection":
            same = known.get("embedding_size") == known.get("hidden_size")
            measured[rule["field"]] = rule["absent"] if same else rule["present"]
        elif tensors is None or not names:
            measured[rule["field"]] = known.get(rule["field"], rule["absent"])
        elif "axis" in rule:
            shape = tensors[names[0]].shape
            measured[rule["field"]] = shape[rule["axis"]] if len(shape) > rule["axis"] else rule["absent"]
        else:
            measured[rule["field"]] = rule["present"]
    return measured


def format_for(config: ModelConfig, target: str) -> NameMap:
    """Return the format in which a target's programs read such a model.

    Args:
        config: the model.
        target: one of `TARGETS`.

    Raises:
        CheckpointError: if the target has no such architecture, naming what stands in the way.
    """
    if target not in TARGETS:
        raise CheckpointError(unknown("target", target, TARGETS))
    obstacles = []
    for name in NameMap.names():
        about = NameMap.load(name).values["config"]
        if about.get("target") != target:
            continue
        model_types = [about["model_type"]] if "model_type" in about else families.names()
        held = {*about.get("required", ()), *about.get("optional", ()), *about.get("own", ())}
        own = {f: [default] for f, default in _OWN_DEFAULTS.items() if f not in held}
        demands = {**own, "model_type": model_types, **about.get("writes", {})}
        wrong = [f for f, allowed in demands.items() if getattr(config, f) not in allowed]
        needless = config.embedding_projection == "output" and config.embedding_size == config.hidden_size
        if needless and not about.get("projects_equal_widths", True):
            wrong.append("embedding_projection")
        if not wrong:
            return NameMap.load(name)
        if "model_type" not in wrong:
            obstacles += [f"{f} {getattr(config, f)!r} (only {_either(demands[f])})" for f in wrong]
    reason = "; ".join(dict.fromkeys(obstacles)) or f"model_type {config.model_type!r}"
    raise CheckpointError(f"{target} has no such model: {reason}")


def _either(values: list[Any]) -> str:
    return " or ".join(repr(value) for value in values)


def saved_format(config: ModelConfig) -> NameMap:
    """Return the format in which models are saved: transformers' where it has such an architecture, else our own."""
    try:
        return format_for(config, SAVED)
    except CheckpointError:
        return format_for(config, "native")


def write_values(config: ModelConfig, namemap: NameMap, head: str | None = None) -> dict[str, Any]:
    """Write the config.json of a format; the inverse of `read_values`.

    Args:
        config: the model.
        namemap: a format that has such models, see `format_for`.
        head: None for the bare encoder, "span" for the span head, "span_given" for that whose ends depend on starts,
            "piece" for one that guesses hidden pieces.

    Raises:
        CheckpointError: if the format has no class with such a head.
    """
    about = namemap.values["config"]
    classes = about.get("classes", {})
    if classes and (head or "encoder") not in classes:
        raise CheckpointError(unknown("head", head, tuple(classes)))
    names = {ours: theirs for theirs, ours in about.get("names", {}).items()}
    acts: dict[str, str] = {}
    for theirs, ours in about["hidden_act"].items():
        acts.setdefault(ours, theirs)
    # Where a program has one GELU alone, that is what it computes for all: `deviations` says so.
    act = acts.get(config.hidden_act, "gelu")
    left_out = {*about.get("fixed", {}), *(rule["field"] for rule in about.get("measured", ()))}
    own = {name for name in about.get("own", ()) if getattr(config, name) != _OWN_DEFAULTS[name]}
    left_out |= _NOT_EVERYWHERE - {*about.get("required", ()), *about.get("optional", ()), *own, *names}
    written = {names.get(name, name): getattr(config, name) for name in _FIELDS if name not in left_out}
    quotients = about.get("quotients", {})
    written |= {name: getattr(config, whole) // getattr(config, parts) for name, (whole, parts) in quotients.items()}
    written = {key: value for key, value in written.items() if key in about.get("keys", written)}
    written[names.get("hidden_act", "hidden_act")] = act
    architecture = {"architectures": [classes[head or "encoder"]]} if classes else {}
    return {**architecture, **about.get("constants", {}), **written}


def deviations(config: ModelConfig, namemap: NameMap) -> list[str]:
    """Say where a format's own programs compute something else than this model, because they hard-code a value."""
    about = namemap.values["config"]
    fixed = dict(about.get("fixed", {}))
    if config.hidden_act not in about["hidden_act"].values():
        fixed["hidden_act"] = about["hidden_act"]["gelu"]
    return [
        f"programs for {namemap.name} compute with {name} {value!r}; this model has {getattr(config, name)!r}"
        for name, value in fixed.items()
        if getattr(config, name) != value
    ]


def spare(config: ModelConfig) -> tuple[str, ...]:
    """Return patterns of the parameters that a file of this model may hold although no layer uses them."""
    return config.family.spare_parameters(config)
