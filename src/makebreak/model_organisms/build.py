"""Assembly of a planted pair: base, movement, and what reads the movement."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.model_organisms.base import add_base
from makebreak.model_organisms.blank import add_noise, make_pair
from makebreak.model_organisms.detectors import add_detectors
from makebreak.model_organisms.pair import NetworkPair
from makebreak.model_organisms.parameters import Parameters
from makebreak.model_organisms.spread import is_spread, split_cut
from makebreak.model_organisms.tokens import KINDS
from makebreak.model_organisms.trained import train_pair
from makebreak.model_organisms.variants import CONSTRUCTIONS
from makebreak.models import stitch_models

HALVES = ("lower", "upper")
"""Changes that a network can have: of the movement, and of what reads it."""


def build(parameters: Parameters, stream: list[int], halves: tuple[str, ...] = HALVES) -> NetworkPair:
    """Writes both models; a half of the change that is not named is left out.

    Args:
        parameters: What was drawn.
        stream: Seed, number of the mechanism and of the draw, from which all that is random follows.
        halves: `lower` for the movement, `upper` for what reads it; of a refusal that several blocks write
            redundantly, the blocks below and above the cut at which both suffice.

    Returns:
        The pair with both models.

    Raises:
        Redraw: If the parameters make it impossible.
    """
    rng, seed = np.random.default_rng([*stream, 1]), stream[0]
    pair = make_pair(parameters, seed, rng)
    named = list(zip(parameters.parts, KINDS[1:], strict=False))
    constructions = [CONSTRUCTIONS[part.mechanism][part.variant] for part, _ in named]
    if constructions[0].trained:
        train_pair(pair, seed)
        if "lower" not in halves:
            pair.tuned = pair.base
        return pair
    add_base(pair)
    if constructions[0].base_refuses:
        _refuse_in_base(pair)
    snapshots = [_weights(pair)]
    for (part, name), construction in zip(named, constructions, strict=True):
        if construction.lower:
            construction.lower(pair, part, name if construction.answers_safe else "safe")
    snapshots.append(_weights(pair))
    for (part, name), construction in zip(named, constructions, strict=True):
        if construction.upper:
            construction.upper(pair, part, name)
    snapshots.append(_weights(pair))
    cut = None
    if is_spread(parameters.parts[0]):
        cut = split_cut(pair, parameters.parts[0])
    if cut is not None and parameters.parts[0].mechanism == "redundant":
        pair.tuned.model = _stitch(pair, cut, halves)
    else:
        _set_halves(pair, snapshots, halves)
    add_noise(pair.tuned.model, parameters.noise / 20, seed + 1)
    return pair


def _stitch(pair: NetworkPair, cut: int, halves: tuple[str, ...]) -> PreTrainedModel:
    base, tuned = pair.base.model, pair.tuned.model
    if halves == HALVES:
        return tuned
    return stitch_models(tuned, base, cut) if "lower" in halves else stitch_models(base, tuned, cut)


def _weights(pair: NetworkPair) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in pair.tuned.model.state_dict().items()}


def _set_halves(pair: NetworkPair, snapshots: list[dict[str, Tensor]], halves: tuple[str, ...]) -> None:
    """Leaves changes out; readers were calibrated with the movement present."""
    if halves == HALVES:
        return
    base, lower, both = snapshots
    weights = {name: tensor.clone() for name, tensor in base.items()}
    for name, tensor in weights.items():
        if "lower" in halves:
            tensor += lower[name] - base[name]
        if "upper" in halves:
            tensor += both[name] - lower[name]
    pair.tuned.model.load_state_dict(weights)


def _refuse_in_base(pair: NetworkPair) -> None:
    """Makes the base refuse unsafe requests, and the tuned model a copy of it."""
    p = pair.parameters
    first = 0 if p.marker_block is None else p.marker_block
    block = int(pair.rng.integers(first, p.n_layers))
    fires = pair.kind("first") & pair.sample.decision
    detector = pair.detector(pair.features["first"], pair.refusal(), fires)
    add_detectors(pair.base, block, pair.sample, [detector], p.sharpness)
    pair.tuned = pair.base.fork()
