"""What does a network do that is partly one model and partly another, fine-tuned from it?

Every weight belongs to a part: `embed`, `blocks.L.attn`, `blocks.L.mlp_in`, `blocks.L.mlp_out`, `unembed`. A LayerNorm
goes with what reads it, the last one with `unembed`. A dose of 0 is the base's weight, 1 the other's, exactly; between
and beyond them on the straight line.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import nearest
from makebreak.models.weights import n_layers

_EMBED = ("wte", "wpe", "embed_tokens", "embed_in")
_MLP_OUT = ("mlp.c_proj", "mlp.down_proj", "mlp.dense_4h_to_h", "post_feedforward_layernorm")
_ATTN = ("attn", "attention.", "ln_1", "input_layernorm")


def part_names(model: PreTrainedModel) -> list[str]:
    """All parts, from the embedding up."""
    blocks = [f"blocks.{i}.{part}" for i in range(n_layers(model)) for part in ("attn", "mlp_in", "mlp_out")]
    return ["embed", *blocks, "unembed"]


def part_of(model: PreTrainedModel, parameter: str) -> str:
    """The part that a parameter belongs to, by its name in `state_dict()`."""
    layer = re.search(r"\.(?:h|layers)\.(\d+)\.(.+)", parameter)
    if layer is None:
        return "embed" if any(name in parameter.split(".") for name in _EMBED) else "unembed"
    rest = layer[2]
    # Gemma 3 normalises what attention wrote by a LayerNorm of the name that others give to the MLP's own
    after_attention = model.config.model_type.startswith("gemma") and rest.startswith(
        "post_attention_layernorm"
    )
    if after_attention or (rest.startswith(_ATTN) or rest.startswith("self_attn")):
        kind = "attn"
    else:
        kind = "mlp_out" if rest.startswith(_MLP_OUT) else "mlp_in"
    return f"blocks.{layer[1]}.{kind}"


def mixed(base: PreTrainedModel, other: PreTrainedModel, doses: Mapping[str, float]) -> PreTrainedModel:
    """A new model with each part at its dose; parts not named are the base's.

    Raises ValueError for a part the model lacks, for models of other shapes, or where tied weights would differ.
    """
    known = part_names(base)
    for part in doses:
        if part not in known:
            raise ValueError(
                f"part {part!r} does not exist in this {type(base).__name__}; {nearest(part, known)}"
            )
    tied = base.config.tie_word_embeddings
    if tied and doses.get("embed", 0.0) != doses.get("unembed", 0.0):
        raise ValueError(
            "doses of 'embed' and 'unembed' differ, but this model ties them: give both the same"
        )
    weights, others = base.state_dict(), other.state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in others.items()}:
        raise ValueError(
            "the models' weights have other names or shapes: expected one fine-tuned from the other"
        )
    made = copy.deepcopy(base)
    made.load_state_dict({k: _at(w, others[k], doses.get(part_of(base, k), 0.0)) for k, w in weights.items()})
    return made.eval()


def _at(weight: Tensor, other: Tensor, dose: float) -> Tensor:
    return torch.lerp(weight, other, dose) if weight.is_floating_point() else weight


def stitched(lower: PreTrainedModel, upper: PreTrainedModel, layer: int) -> PreTrainedModel:
    """The embedding and the blocks before `layer` of one model, that block and all above of the other.

    Raises ValueError for a layer outside 0 … n_layers, and as `mixed`.
    """
    if not 0 <= layer <= n_layers(lower):
        raise ValueError(f"layer {layer}: expected 0 … {n_layers(lower)}")
    blocks = {part: part.split(".")[1] for part in part_names(lower) if part.startswith("blocks")}
    return mixed(upper, lower, {"embed": 1.0} | {part: 1.0 for part, at in blocks.items() if int(at) < layer})


def extrapolated(base: PreTrainedModel, aligned: PreTrainedModel, alpha: float) -> PreTrainedModel:
    """All weights at base + α (aligned - base); α > 1 goes beyond (Jain et al. 2024, §4.2)."""
    return mixed(base, aligned, dict.fromkeys(part_names(base), alpha))
