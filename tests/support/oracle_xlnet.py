"""What zihangdai/xlnet computes when it is fine-tuned, in float64 numpy, from its own variables and configuration.

Written from its modeling.py (transformer_xl, rel_multihead_attn, rel_attn_core, rel_shift), not from this toolkit.
The shift is done as there: scores for 2 S distances, reshaped.
"""

from __future__ import annotations

import math

import numpy as np

from tests.support.oracle_layers import TF_ACTS, Arrays, layer_norm, softmax


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The variables of a pre-trained model."""
    n, h, inner = config["n_layer"], config["d_model"], config["d_inner"]
    heads = (config["n_head"], config["d_head"])
    found = {
        "model/lm_loss/bias": (config["n_token"],),
        "model/transformer/mask_emb/mask_emb": (1, 1, h),
        "model/transformer/seg_embed": (n, 2, *heads),
        "model/transformer/word_embedding/lookup_table": (config["n_token"], h),
    }
    for name in ("r_w_bias", "r_r_bias", "r_s_bias"):
        found[f"model/transformer/{name}"] = (n, *heads) if config["untie_r"] else heads
    for i in range(n):
        at = f"model/transformer/layer_{i}"
        found |= {f"{at}/rel_attn/{name}/kernel": (h, *heads) for name in "qkvor"}
        found |= {f"{at}/ff/layer_1/kernel": (h, inner), f"{at}/ff/layer_1/bias": (inner,)}
        found |= {f"{at}/ff/layer_2/kernel": (inner, h), f"{at}/ff/layer_2/bias": (h,)}
        found |= {f"{at}/{part}/LayerNorm/{leaf}": (h,) for part in ("rel_attn", "ff") for leaf in ("gamma", "beta")}
    return found


def forward(arrays: Arrays, config: dict, ids, mask, types, clamp_len: int = -1) -> Arrays:
    """Every layer's output [B, S, H]; `types` None for the program without segments."""
    v = {name.removeprefix("model/transformer/"): array.astype(np.float64) for name, array in arrays.items()}
    n_windows, length = ids.shape
    h, untied = config["d_model"], config["untie_r"]
    distances = np.arange(length, -length, -1.0)
    if clamp_len > 0:
        distances = np.clip(distances, -clamp_len, clamp_len)
    angles = np.einsum("i,d->id", distances, 1 / 10000 ** (np.arange(0, h, 2.0) / h))
    encodings = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    # 1 where a key is not to be seen: padding, less the identity.
    hidden = np.clip((1 - mask)[:, None, :] - np.eye(length), 0, None)
    x = v["word_embedding/lookup_table"][ids]
    found = {"embedding_output": x, "layer_0": x}
    for i in range(config["n_layer"]):
        at = f"layer_{i}"
        w, r, s = (v[f"r_{kind}_bias"][i] if untied else v[f"r_{kind}_bias"] for kind in "wrs")
        q, k, val = (np.einsum("bih,hnd->bind", x, v[f"{at}/rel_attn/{name}/kernel"]) for name in "qkv")
        k_r = np.einsum("jh,hnd->jnd", encodings, v[f"{at}/rel_attn/r/kernel"])
        ac = np.einsum("bind,bjnd->bnij", q + w, k)
        bd = np.einsum("bind,jnd->bnij", q + r, k_r)  # [b, n, S, 2 S]
        n_heads = bd.shape[1]
        bd = bd.reshape(n_windows, n_heads, 2 * length, length)[:, :, 1:]
        bd = bd.reshape(n_windows, n_heads, length, 2 * length - 1)[..., :length]
        ef = 0.0
        if types is not None:
            differ = (types[:, :, None] != types[:, None, :]).astype(int)
            ef = np.einsum(
                "bijs,bnis->bnij", np.eye(2)[differ], np.einsum("bind,snd->bnis", q + s, v["seg_embed"][i])
            )
        scores = (ac + bd + ef) / math.sqrt(config["d_head"]) - 1e30 * hidden[:, None]
        context = np.einsum("bnij,bjnd->bind", softmax(scores), val)
        x = norm(v, f"{at}/rel_attn", x + np.einsum("bind,hnd->bih", context, v[f"{at}/rel_attn/o/kernel"]))
        inner = TF_ACTS[config["ff_activation"]](x @ v[f"{at}/ff/layer_1/kernel"] + v[f"{at}/ff/layer_1/bias"])
        x = norm(v, f"{at}/ff", x + inner @ v[f"{at}/ff/layer_2/kernel"] + v[f"{at}/ff/layer_2/bias"])
        found[f"layer_{i + 1}"] = x
    return found | {"sequence_output": x}


def norm(v: Arrays, at: str, x):
    return layer_norm(x, v[f"{at}/LayerNorm/gamma"], v[f"{at}/LayerNorm/beta"], 1e-12)


def head_shapes(h: int) -> dict[str, tuple[int, ...]]:
    """The variables that its run_squad.py adds."""
    return {
        "start_logits/dense/kernel": (h, 1),
        "start_logits/dense/bias": (1,),
        "end_logits/dense_0/kernel": (2 * h, h),
        "end_logits/dense_0/bias": (h,),
        "end_logits/LayerNorm/gamma": (h,),
        "end_logits/LayerNorm/beta": (h,),
        "end_logits/dense_1/kernel": (h, 1),
        "end_logits/dense_1/bias": (1,),
        "answer_class/dense_0/kernel": (2 * h, h),
        "answer_class/dense_0/bias": (h,),
        "answer_class/dense_1/kernel": (h, 1),
    }


def answers(arrays: Arrays, states, p_mask, cls_index, start_positions=None, n_starts: int = 5) -> Arrays:
    """What its get_qa_outputs says, from states [B, S, H]: of the given starts, else of the `n_starts` best ones.

    p_mask is 1 where no answer may begin or end. "end" is [B, K, S], for K starts.
    """
    v = {name: array.astype(np.float64) for name, array in arrays.items()}
    rows = np.arange(len(states))

    def dense(x, name: str):
        return x @ v[f"{name}/kernel"] + v.get(f"{name}/bias", 0.0)

    def log_softmax(x, mask):
        x = x * (1 - mask) - 1e30 * mask
        return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))

    start = log_softmax(dense(states, "start_logits/dense")[..., 0], p_mask)
    given = np.argsort(-start, axis=1, kind="stable")[:, :n_starts]
    given = given if start_positions is None else start_positions[:, None]
    pairs = np.zeros((*given.shape, states.shape[1], 2 * states.shape[2]))
    pairs[..., : states.shape[2]] = states[:, None]
    pairs[..., states.shape[2] :] = states[rows[:, None], given][:, :, None]
    end = norm(v, "end_logits", np.tanh(dense(pairs, "end_logits/dense_0")))
    feature = np.concatenate([np.einsum("blh,bl->bh", states, np.exp(start)), states[rows, cls_index]], -1)
    cls = dense(np.tanh(dense(feature, "answer_class/dense_0")), "answer_class/dense_1")[..., 0]
    return {
        "start": start,
        "given": given,
        "end": log_softmax(dense(end, "end_logits/dense_1")[..., 0], p_mask[:, None]),
        "cls": cls,
    }


def squad_loss(said: Arrays, start_positions, end_positions, is_impossible) -> float:
    """What its run_squad.py minimises, from `answers` given the right starts."""
    rows = np.arange(len(start_positions))
    start, end = -said["start"][rows, start_positions], -said["end"][rows, 0, end_positions]
    odds = said["cls"]
    cls = np.log1p(np.exp(-np.abs(odds))) + np.maximum(odds, 0) - odds * is_impossible
    return float((start.mean() + end.mean()) * 0.5 + cls.mean() * 0.5)
