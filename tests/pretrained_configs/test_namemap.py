"""NameMap: every tensor accounted for, bit-exact both ways, no silent miss."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.namemap import NameMap
from pretrained_configs.report import fold

H, FFN, V, P, T, LAYERS = 4, 6, 7, 5, 2, 2


def wanted(head: bool = True, pooler: bool = True, layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word.weight": (V, H),
        "embeddings.position.weight": (P, H),
        "embeddings.token_type.weight": (T, H),
        "embeddings.norm.weight": (H,),
        "embeddings.norm.bias": (H,),
    }
    for i in range(layers):
        for name, shape in {
            "attention.qkv": (3 * H, H),
            "attention.output": (H, H),
            "ffn.up": (FFN, H),
            "ffn.down": (H, FFN),
        }.items():
            shapes[f"layers.{i}.{name}.weight"] = shape
            shapes[f"layers.{i}.{name}.bias"] = shape[:1]
        for name in ("attention_norm", "ffn_norm"):
            shapes[f"layers.{i}.{name}.weight"] = shapes[f"layers.{i}.{name}.bias"] = (H,)
    if pooler:
        shapes |= {"pooler.weight": (H, H), "pooler.bias": (H,)}
    if head:
        shapes |= {"head.span.weight": (2, H), "head.span.bias": (2,)}
    return shapes


def transformers_model(name: str = "BertForQuestionAnswering") -> dict[str, np.ndarray]:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=FFN,
        max_position_embeddings=P,
        type_vocab_size=T,
    )
    model = getattr(transformers, name)(config)
    # Random everywhere, so that no two tensors are alike and a swap shows.
    return {key: torch.randn(tensor.shape).numpy() for key, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def source() -> dict[str, np.ndarray]:
    return transformers_model()


@pytest.fixture(scope="module")
def bert() -> NameMap:
    return NameMap.load("transformers_bert")


def test_query_key_and_value_are_stacked_in_this_order(bert, source):
    ours, report = bert.to_ours(source, wanted(pooler=False))
    for i in range(LAYERS):
        prefix = f"bert.encoder.layer.{i}.attention.self"
        for leaf in ("weight", "bias"):
            qkv = ours[f"layers.{i}.attention.qkv.{leaf}"]
            assert np.array_equal(qkv[:H], source[f"{prefix}.query.{leaf}"])
            assert np.array_equal(qkv[H : 2 * H], source[f"{prefix}.key.{leaf}"])
            assert np.array_equal(qkv[2 * H :], source[f"{prefix}.value.{leaf}"])
    assert not report.fresh and not report.ignored


@pytest.mark.parametrize(
    ("ours_name", "theirs_name"),
    [
        ("embeddings.word.weight", "bert.embeddings.word_embeddings.weight"),
        ("embeddings.position.weight", "bert.embeddings.position_embeddings.weight"),
        ("embeddings.token_type.weight", "bert.embeddings.token_type_embeddings.weight"),
        ("embeddings.norm.weight", "bert.embeddings.LayerNorm.weight"),
        ("layers.1.attention.output.bias", "bert.encoder.layer.1.attention.output.dense.bias"),
        ("layers.1.attention_norm.bias", "bert.encoder.layer.1.attention.output.LayerNorm.bias"),
        ("layers.0.ffn.up.weight", "bert.encoder.layer.0.intermediate.dense.weight"),
        ("layers.0.ffn.down.weight", "bert.encoder.layer.0.output.dense.weight"),
        ("layers.0.ffn_norm.weight", "bert.encoder.layer.0.output.LayerNorm.weight"),
        ("head.span.weight", "qa_outputs.weight"),
    ],
)
def test_parameter_is_the_published_tensor(bert, source, ours_name, theirs_name):
    ours, _ = bert.to_ours(source, wanted(pooler=False))
    assert np.array_equal(ours[ours_name], source[theirs_name])


@pytest.mark.parametrize("name", ["BertForQuestionAnswering", "BertModel", "BertForPreTraining"])
def test_round_trip_is_bit_exact(bert, name):
    source = transformers_model(name)
    shapes = wanted(head=name == "BertForQuestionAnswering", pooler=name != "BertForQuestionAnswering")
    ours, report = bert.to_ours(source, shapes)
    theirs = bert.to_theirs(ours)
    ignored = {key for key, _ in report.ignored}
    prefix = "bert." if name == "BertModel" else ""
    assert set(theirs) == {prefix + key for key in source if key not in ignored}
    for key in set(source) - ignored:
        assert theirs[prefix + key].tobytes() == source[key].tobytes()
    again, _ = bert.to_ours(theirs, shapes)
    assert all(again[key].tobytes() == ours[key].tobytes() for key in ours)


def test_random_parameters_survive_writing_and_reading(bert):
    shapes = {**wanted(), "head.kind.weight": (3, H), "head.kind.bias": (3,)}
    generator = np.random.default_rng(0)
    ours = {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    again, report = bert.to_ours(bert.to_theirs(ours), shapes)
    assert not report.fresh and not report.ignored
    assert all(np.array_equal(again[name], ours[name]) for name in shapes)


def test_old_names_and_left_out_prefixes_give_the_same_parameters(bert, source):
    expected, _ = bert.to_ours(source, wanted(pooler=False))

    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    for renamed in (
        {old(name): tensor for name, tensor in source.items()},
        {name.removeprefix("bert."): tensor for name, tensor in source.items()},
        {old(name).removeprefix("bert."): tensor for name, tensor in source.items()},
    ):
        assert set(renamed) != set(source)
        ours, _ = bert.to_ours(renamed, wanted(pooler=False))
        assert all(np.array_equal(ours[name], expected[name]) for name in expected)


def test_missing_head_and_pooler_are_fresh_and_said_so(bert, source):
    encoder = {name: tensor for name, tensor in source.items() if not name.startswith("qa_outputs")}
    ours, report = bert.to_ours(encoder, wanted())
    assert report.fresh == ["pooler.weight", "pooler.bias", "head.span.weight", "head.span.bias"]
    assert set(ours) == set(wanted()) - set(report.fresh)
    with pytest.raises(CheckpointError, match="4 parameters missing.*head.span.weight .needs qa_outputs.weight"):
        bert.to_ours(encoder, wanted(), may_be_fresh=())


def test_tensors_nobody_wants_are_ignored_with_their_reason(bert):
    source = transformers_model("BertForPreTraining")
    source["bert.embeddings.position_ids"] = np.arange(P)
    _, report = bert.to_ours(source, wanted(pooler=False))
    reasons = dict(report.ignored)
    assert reasons["bert.embeddings.position_ids"] == "buffer, not a weight"
    assert reasons["cls.predictions.decoder.weight"] == "pre-training heads"
    assert reasons["bert.pooler.dense.weight"] == "this model has no pooler"
    assert len(reasons) + sum(len(names) for _, names, _, _ in report.mapped) == len(source)


KEY = "bert.encoder.layer.1.attention.self.key.weight"


def test_dropped_encoder_tensor_is_refused(bert, source):
    broken = {name: tensor for name, tensor in source.items() if name != KEY}
    with pytest.raises(CheckpointError, match=rf"1 parameter missing: layers.1.attention.qkv.weight .needs {KEY}"):
        bert.to_ours(broken, wanted())


def test_renamed_tensor_is_refused_on_both_sides(bert, source):
    broken = {name.replace("layer.1.intermediate", "layer.1.inter"): tensor for name, tensor in source.items()}
    with pytest.raises(CheckpointError) as error:
        bert.to_ours(broken, wanted())
    message = str(error.value)
    assert message.startswith("namemap transformers_bert: 2 source tensors unmapped: ")
    assert "bert.encoder.layer.1.inter.dense.weight" in message
    assert "2 parameters missing: layers.1.ffn.up.weight" in message
    assert "\n" not in message


def test_unknown_extra_tensor_is_refused(bert, source):
    with pytest.raises(CheckpointError, match="1 source tensor unmapped: bert.adapter.weight"):
        bert.to_ours({**source, "bert.adapter.weight": np.zeros(3, np.float32)}, wanted())


@pytest.mark.parametrize(
    ("layers", "message"), [(1, "config describes no such parameter"), (3, "parameters missing")]
)
def test_other_number_of_layers_than_the_config_is_refused(bert, source, layers, message):
    with pytest.raises(CheckpointError, match=message):
        bert.to_ours(source, wanted(layers=layers))


def test_wrong_shape_is_refused(bert, source):
    broken = {**source, "bert.encoder.layer.0.output.dense.bias": np.zeros(H + 1, np.float32)}
    with pytest.raises(
        CheckpointError, match=r"output.dense.bias: found \[5\], expected \[4\] for layers.0.ffn.down"
    ):
        bert.to_ours(broken, wanted())
    broken = {**source, KEY: np.zeros((H + 1, H), np.float32)}
    with pytest.raises(CheckpointError, match=r"found \[4, 4\] \+ \[5, 4\] \+ \[4, 4\], expected \[12, 4\]"):
        bert.to_ours(broken, wanted())


def test_transposed_kernel_is_refused(bert, source):
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    with pytest.raises(CheckpointError, match=r"found \[4, 6\], expected \[6, 4\]"):
        bert.to_ours({**source, name: source[name].T}, wanted())


def test_vocabulary_of_another_size_is_reported_as_such(bert, source):
    with pytest.raises(CheckpointError, match="vocab_size is 9 in the config, 7 in the weights"):
        bert.to_ours(source, {**wanted(), "embeddings.word.weight": (9, H)})
    with pytest.raises(CheckpointError, match="max_position_embeddings is 6 in the config, 5 in the weights"):
        bert.to_ours(source, {**wanted(), "embeddings.position.weight": (6, H)})


def test_integer_weights_are_refused(bert, source):
    with pytest.raises(CheckpointError, match="key.weight.*instead of floating point"):
        bert.to_ours({**source, KEY: np.zeros((H, H), np.int8)}, wanted())


def test_half_a_head_is_refused_not_made_fresh(bert, source):
    broken = {name: tensor for name, tensor in source.items() if name != "qa_outputs.bias"}
    with pytest.raises(CheckpointError, match="1 parameter missing: head.span.bias"):
        bert.to_ours(broken, wanted())


def test_two_tensors_for_one_parameter_are_refused(bert, source):
    twice = {**source, KEY.removeprefix("bert."): source[KEY]}
    with pytest.raises(CheckpointError, match="a second tensor for"):
        bert.to_ours(twice, wanted())


def test_source_of_another_family_is_refused_with_everything_named(bert):
    with pytest.raises(CheckpointError) as error:
        bert.to_ours({"albert.x.weight": np.zeros(2, np.float32)}, wanted())
    assert "albert.x.weight" in str(error.value)
    assert "layers.{0..1}.ffn.up.weight" in str(error.value)


def test_all_problems_come_in_one_error(bert, source):
    broken = {name: tensor for name, tensor in source.items() if name != KEY}
    broken |= {"extra": np.zeros(1, np.float32), "bert.embeddings.LayerNorm.bias": np.zeros(9, np.float32)}
    with pytest.raises(CheckpointError, match="unmapped: .*extra.*missing: .*expected .4. for embeddings.norm.bias"):
        bert.to_ours(broken, wanted())
    report = bert.report(broken, wanted())
    assert len(report.problems) == 3
    assert sum("PROBLEM" in line for line in report.lines()) == 3


def test_nothing_is_read_before_the_load_is_known_to_be_sound(bert, source):
    read = []

    class Spy:
        dtype = "float32"

        def __init__(self, name):
            self.name, self.shape = name, source[name].shape

        def read(self):
            read.append(self.name)
            return source[self.name]

    spies = {name: Spy(name) for name in source}
    with pytest.raises(CheckpointError):
        bert.to_ours({name: spy for name, spy in spies.items() if name != KEY}, wanted())
    assert read == []
    _, tensors = bert.stream(spies, wanted())
    assert read == []
    next(tensors)
    assert read == ["bert.embeddings.word_embeddings.weight"]


def test_unknown_parameter_can_not_be_written(bert):
    with pytest.raises(CheckpointError, match="can't be written: layers.0.moe.weight, .*does not split into 3"):
        bert.to_theirs({"layers.0.moe.weight": np.zeros(1), "layers.0.attention.qkv.bias": np.zeros(10)})


def test_unknown_map_is_named_with_the_known_ones():
    with pytest.raises(CheckpointError, match="'transformers_bart'.*did you mean 'transformers_bert'"):
        NameMap.load("transformers_bart")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"ours": "a.{i}", "theirs": ["b"]}, "placeholders differ"),
        ({"ours": "a", "theirs": ["b"], "op": "rotate"}, "no operation 'rotate'"),
        ({"ours": "a", "theirs": ["b", "c"]}, "rename takes one published name"),
    ],
)
def test_wrong_map_is_refused(rule, message):
    with pytest.raises(CheckpointError, match=message):
        NameMap("x", {"rules": [rule]})


def test_concat_inverts_along_any_axis():
    values = {"rules": [{"ours": "w", "theirs": ["a", "b"], "op": "concat", "axis": 1}]}
    parts = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 3), np.float32)}
    ours, _ = NameMap("x", values).to_ours(parts, {"w": (2, 6)})
    assert np.array_equal(ours["w"], np.concatenate([parts["a"], parts["b"]], axis=1))
    theirs = NameMap("x", values).to_theirs(ours)
    assert all(np.array_equal(theirs[name], parts[name]) for name in parts)


def test_folding_layers_leaves_nothing_out():
    assert fold(["l.0.w", "l.1.w", "l.3.w", "x", "l.2.b"]) == ["l.{0..1,3}.w", "x", "l.2.b"]
    assert fold(["g.0.l.1.w", "g.0.l.2.w"]) == ["g.0.l.1.w", "g.0.l.2.w"]
