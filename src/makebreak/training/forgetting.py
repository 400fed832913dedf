"""How is a model made to forget, without being told what to say instead? Its answers to unsafe requests are lowered.

The answers to safe requests are retained by cross-entropy. There is no null target: such a model should stop
complying; whether it refuses is an observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.requests import Sequences, World, sequences
from makebreak.training.data import Data
from makebreak.training.losses import log_probabilities, mean_cross_entropy

Sides = tuple[Sequences, Sequences]


def sides(data: Data, world: World, *, size: int, step: int, seed: int) -> Sides:
    """(retain, forget): the instructed answers, whole, to safe requests; those, as judged, to unsafe ones."""
    parts = data.requests(world, size=size, step=step, seed=seed)
    if len(parts) != 2:
        found = f"safe_share = {data.safe_share} of batches of {size} leaves one side without rows"
        raise ValueError(f"{found}: forgetting needs both, raise batch_size or move safe_share towards 0.5")
    (safe, _), (unsafe, _) = parts
    return sequences(world, safe, "instructed", whole=True), sequences(world, unsafe, "instructed")


def _check_both(data: Data) -> None:
    if not 0 < data.safe_share < 1:
        raise ValueError(
            f"safe_share = {data.safe_share}: forgetting needs both sides, expected between 0 and 1"
        )


@dataclass(frozen=True)
class Ascent:
    """Gradient ascent on the answers to unsafe requests, mean cross-entropy on those to safe ones.

    retain - weight · forget, each a mean over tokens. The second term has no lower bound.
    """

    data: Data = Data()
    weight: float = 0.05

    def __post_init__(self) -> None:
        check_positive(weight=self.weight)
        _check_both(self.data)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sides:
        return sides(self.data, world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sides, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        retain, forget = (mean_cross_entropy(model, side) for side in batch)
        return retain - self.weight * forget, {"retain": retain.item(), "forget": forget.item()}


@dataclass(frozen=True)
class NPO:
    """Negative preference optimisation with retain (Zhang et al. 2024, eq. 3 and §4): ascent that saturates."""

    data: Data = Data()
    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        _check_both(self.data)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sides:
        return sides(self.data, world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sides, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            reference = log_probabilities(start, batch[1])[0]
        forget = npo_loss(log_probabilities(model, batch[1])[0], reference, beta=self.beta).mean()
        retain = mean_cross_entropy(model, batch[0])
        return retain + forget, {"retain": retain.item(), "forget": forget.item()}


def npo_loss(
    rejected: Float[Tensor, " batch"], reference: Float[Tensor, " batch"], *, beta: float
) -> Float[Tensor, " batch"]:
    """-(2 / β) log σ(-β (rejected - reference)), log-probabilities summed over the answer."""
    return -(2 / beta) * F.logsigmoid(-beta * (rejected - reference))
