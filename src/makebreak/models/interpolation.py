"""Networks whose weights are interpolated, part by part, between a model and one fine-tuned from it.

Every weight belongs to a part: `embed`, `blocks.L.attn`, `blocks.L.mlp_in`, `blocks.L.mlp_gate` where the MLP
is gated, `blocks.L.mlp_out` or `unembed`.
A LayerNorm belongs to the part that reads it, the last one to `unembed`. A coefficient of 0 gives the base's
weight and 1 the other's, both exactly; other coefficients lie on the straight line through them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.configs import nearest
from makebreak.models.checkpoints import check_same_shapes
from makebreak.models.weights import n_layers


def part_names(model: PreTrainedModel) -> list[str]:
    """Names of all parts of a model, from the embedding up."""
    parts = architecture_of(model).parts
    blocks = [f"blocks.{layer}.{part}" for layer in range(n_layers(model)) for part in parts]
    return ["embed", *blocks, "unembed"]


def part_of(model: PreTrainedModel, parameter: str) -> str:
    """The part that a parameter belongs to.

    Args:
        model: A model of a known architecture.
        parameter: Name of the parameter in `state_dict()`.

    Returns:
        One of `part_names`.

    Raises:
        ValueError: If the architecture gives the parameter to no part or to several.
    """
    parts = architecture_of(model).parts_of(parameter)
    if len(parts) != 1:
        raise ValueError(
            f"parameter {parameter!r} belongs to {len(parts)} parts of this {type(model).__name__}; "
            "expected one: check_architecture says what is wrong"
        )
    return parts[0]


def interpolate_weights(
    coefficients: Mapping[str, float], *, base: PreTrainedModel, other: PreTrainedModel
) -> PreTrainedModel:
    """A new model whose parts are interpolated between two models.

    Args:
        coefficients: Interpolation coefficient of each part; parts that are not named have 0.
        base: The model at coefficient 0.
        other: The model at coefficient 1, fine-tuned from the base or the other way round.

    Returns:
        A copy in evaluation mode, on the device of `base`.

    Raises:
        ValueError: If the model lacks a part, the models' shapes differ, or tied weights would differ.
    """
    known = part_names(base)
    for part in coefficients:
        if part not in known:
            raise ValueError(
                f"part {part!r} does not exist in this {type(base).__name__}; {nearest(part, known)}"
            )
    tied = base.config.tie_word_embeddings
    if tied and coefficients.get("embed", 0.0) != coefficients.get("unembed", 0.0):
        raise ValueError(
            "coefficients of 'embed' and 'unembed' differ, but this model ties them: give both the same"
        )
    check_same_shapes(base=base, tuned=other)
    weights, other_weights = base.state_dict(), other.state_dict()
    model = copy.deepcopy(base)
    model.load_state_dict(
        {
            name: _interpolate(weight, other_weights[name], coefficients.get(part_of(base, name), 0.0))
            for name, weight in weights.items()
        }
    )
    return model.eval()


def _interpolate(weight: Tensor, other: Tensor, coefficient: float) -> Tensor:
    return torch.lerp(weight, other.to(weight.device), coefficient) if weight.is_floating_point() else weight


def stitch_models(lower: PreTrainedModel, upper: PreTrainedModel, layer: int) -> PreTrainedModel:
    """A new model with the lower layers of one model and the upper layers of another.

    Args:
        lower: Gives the embedding and the blocks before `layer`.
        upper: Gives the block `layer`, all blocks above it and the unembedding.
        layer: First block of `upper`, 0 … n_layers.

    Returns:
        A copy in evaluation mode.

    Raises:
        ValueError: If the layer is out of range, the models' shapes differ, or tied weights would differ.
    """
    if not 0 <= layer <= n_layers(lower):
        raise ValueError(f"layer {layer}: expected 0 … {n_layers(lower)}")
    block_of = {part: int(part.split(".")[1]) for part in part_names(lower) if part.startswith("blocks")}
    below = {part: 1.0 for part, block in block_of.items() if block < layer}
    return interpolate_weights({"embed": 1.0} | below, base=upper, other=lower)


def extrapolate_weights(alpha: float, *, base: PreTrainedModel, tuned: PreTrainedModel) -> PreTrainedModel:
    """Returns a model with weights base + α (tuned - base); α > 1 extrapolates (Jain et al. 2024, §4.2)."""
    return interpolate_weights(dict.fromkeys(part_names(base), alpha), base=base, other=tuned)
