"""Assembly of a planted pair: base, movement, and what reads the movement."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from makebreak.organisms.base import add_base
from makebreak.organisms.bench import Bench, add_noise, make_bench
from makebreak.organisms.constructions import CONSTRUCTIONS
from makebreak.organisms.parameters import Parameters
from makebreak.organisms.tokens import KINDS
from makebreak.organisms.trained import train_pair

HALVES = ("lower", "upper")
"""Changes that a network can have: of the movement, and of what reads it."""


def build(parameters: Parameters, stream: list[int], halves: tuple[str, ...] = HALVES) -> Bench:
    """Writes both models; a half of the change that is not named is left out.

    Args:
        parameters: What was drawn.
        stream: Seed, number of the mechanism and of the draw, from which all that is random follows.
        halves: `lower` for the movement, `upper` for what reads it.

    Returns:
        The bench with both models.

    Raises:
        Redraw: If the parameters make it impossible.
    """
    rng, seed = np.random.default_rng([*stream, 1]), stream[0]
    bench = make_bench(parameters, seed, rng)
    named = list(zip(parameters.parts, KINDS[1:], strict=False))
    constructions = [CONSTRUCTIONS[part.mechanism][part.variant] for part, _ in named]
    if constructions[0].trained:
        train_pair(bench, seed)
        if "lower" not in halves:
            bench.tuned = bench.base
        return bench
    add_base(bench)
    if constructions[0].base_refuses:
        _refuse_in_base(bench)
    snapshots = [_weights(bench)]
    for (part, name), construction in zip(named, constructions, strict=True):
        if construction.lower:
            construction.lower(bench, part, name if construction.answers_safe else "safe")
    snapshots.append(_weights(bench))
    for (part, name), construction in zip(named, constructions, strict=True):
        if construction.upper:
            construction.upper(bench, part, name)
    snapshots.append(_weights(bench))
    _set_halves(bench, snapshots, halves)
    add_noise(bench.tuned.model, parameters.noise / 20, seed + 1)
    return bench


def _weights(bench: Bench) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in bench.tuned.model.state_dict().items()}


def _set_halves(bench: Bench, snapshots: list[dict[str, Tensor]], halves: tuple[str, ...]) -> None:
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
    bench.tuned.model.load_state_dict(weights)


def _refuse_in_base(bench: Bench) -> None:
    """Makes the base refuse unsafe requests, and the tuned model a copy of it."""
    p = bench.parameters
    first = 0 if p.marker_block is None else p.marker_block
    block = int(bench.rng.integers(first, p.n_layers))
    fires = bench.kind("first") & bench.sample.decision
    detector = bench.detector(bench.features["first"], bench.refusal(), fires)
    bench.base.detect(block, bench.sample, [detector], p.sharpness)
    bench.tuned = bench.base.fork()
