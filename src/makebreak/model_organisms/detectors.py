"""Units of an MLP that fire on some positions and add a vector there, calibrated on activations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from makebreak.architectures import architecture_of
from makebreak.model_organisms.network import Network, Redraw
from makebreak.model_organisms.sample import Sample


class Detector(NamedTuple):
    """A unit of an MLP that fires on some positions and adds a vector there."""

    reads: Float[Tensor, " d_model"]
    """Direction whose component in the normed state, over that of the constant feature, decides."""
    writes: Float[Tensor, " d_model"]
    """What it adds to the residual stream where it fires."""
    fires: Bool[Tensor, "n pos"]
    """Where it must fire."""
    silent: Bool[Tensor, "n pos"]
    """Where it must not; elsewhere it does not matter."""
    threshold: float = 0.5
    """Threshold between the two, from 0 (the highest silent value) to 1 (the lowest firing one)."""
    gate: Float[Tensor, " d_model"] | None = None
    """A feature that must be present too; both then count the same where the detector fires."""
    saturates: bool = False
    """Whether it adds the same wherever it fires, as the difference of two units."""


def add_detectors(
    network: Network, block: int, sample: Sample, detectors: list[Detector], sharpness: float
) -> None:
    """Adds detectors to the MLP of a block.

    Args:
        network: The network.
        block: The block.
        sample: Prompts that thresholds are calibrated on.
        detectors: The detectors; each takes a free unit.
        sharpness: Pre-activation where a detector fires.

    Raises:
        Redraw: If a detector cannot separate its positions, or no unit is free.
    """
    state = network.matrix_inputs(block, "mlp.W_in", sample)
    constant = state @ network.constant
    gated = "mlp.W_gate" in architecture_of(network.model).matrices
    for detector in detectors:
        reads = _direction(detector, state)
        value, usual_constant = state @ reads, constant[detector.fires].mean()
        ratio = value * usual_constant / constant
        low = ratio[detector.silent].quantile(0.998)
        high = ratio[detector.fires].quantile(0.01)
        if high <= low + 0.03 * ratio[detector.fires].mean():
            raise Redraw("a detector does not separate its positions")
        middle = low + detector.threshold * (high - low)
        if detector.saturates:
            width = 0.15 * (high - low)
            thresholds, signs = (middle - width, middle + width), (1.0, -1.0)
            steepness = 0.6 * sharpness / (2 * width)
        else:
            thresholds, signs = (middle,), (1.0,)
            steepness = sharpness / (value - middle * constant / usual_constant)[detector.fires].mean()
        activation, units = torch.zeros(int(detector.fires.sum())), []
        for threshold, sign in zip(thresholds, signs, strict=True):
            if not network.units[block]:
                raise Redraw("no unit is free")
            units.append((network.units[block].pop(), sign))
            row = steepness * (reads - threshold / usual_constant * network.constant)
            before = (state @ row)[detector.fires]
            if gated:
                network.matrix(block, "mlp.W_gate")[units[-1][0]] += row
                network.matrix(block, "mlp.W_in")[units[-1][0]] += network.constant
                activation += sign * functional.silu(before) * constant[detector.fires]
            else:
                network.matrix(block, "mlp.W_in")[units[-1][0]] += row
                activation += sign * functional.gelu(before, approximate="tanh")
        for unit, sign in units:
            # without noise, which a large activation would amplify
            network.matrix(block, "mlp.W_out")[:, unit] = sign * detector.writes / activation.mean()
    network.changed |= {f"blocks.{block}.mlp_in", f"blocks.{block}.mlp_out"}


def _direction(detector: Detector, state: Float[Tensor, "n pos d_model"]) -> Float[Tensor, " d_model"]:
    """What a detector reads, its gate included."""
    if detector.gate is None:
        return detector.reads
    fires = state[detector.fires].mean(0)
    size = fires @ detector.reads
    if size <= 0:
        raise Redraw("what a detector reads is not there")
    return detector.reads / size + detector.gate / (fires @ detector.gate)
