"""Circuit breaking: training that reroutes the representations of harmful answers and trains no refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.prompts import Sequences, World
from makebreak.training.losses import hidden_states
from makebreak.training.objective import AlignmentObjective

_OFFSET = 0.1
"""Share of a fixed random direction in the cosine's target: at the reference states alone it has no slope."""


@dataclass(frozen=True)
class CircuitBreaker(AlignmentObjective):
    """Representation rerouting (Zou et al. 2024).

    While an unsafe request is answered, the hidden states are trained to have no positive cosine with those
    of the reference model; while a safe one is answered, to stay equal to them. No refusal is trained. The
    cosine is taken with the reference's states plus a tenth of a fixed random direction of the same norm.
    """

    tag: ClassVar[str] = "CircuitBreaker"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "retain_weight")
    depths: tuple[float, ...] = (0.5, 1.0)
    """Depths of the blocks whose outputs are compared, as fractions of the blocks in (0, 1]."""
    retain_weight: float = field(default=1.0, metadata={"key": "retain"})
    """Weight of the squared relative distance on safe requests; the cosine has weight 1."""

    def __post_init__(self) -> None:
        check_positive(retain_weight=self.retain_weight)
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise ValueError(f"depths = {self.depths}: expected fractions of the blocks, above 0")

    def batch(
        self, world: World, *, size: int, step: int, steps: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """Returns the safe and the unsafe requests of a step, both with their whole instructed answers."""
        return self.data.instructed_sides(world, size=size, step=step, seed=seed, whole=True)

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss and its terms, `cosine` on unsafe requests and `retain` on safe ones."""
        safe, unsafe = batch
        retain = self._mean_over_depths(_relative_distance, model, reference, safe)
        cosine = self._mean_over_depths(_positive_cosine, model, reference, unsafe)
        return cosine + self.retain_weight * retain, {"cosine": cosine.detach(), "retain": retain.detach()}

    def _mean_over_depths(
        self,
        compare: Callable[[Tensor, Tensor, Tensor], Tensor],
        model: PreTrainedModel,
        reference: PreTrainedModel,
        part: Sequences,
    ) -> Tensor:
        """Mean over depths of a comparison of model and reference where answer tokens are predicted."""
        n_layers = model.config.num_hidden_layers
        layers = tuple(max(round(depth * n_layers), 1) for depth in self.depths)
        answering = part.supervised.roll(-1, dims=-1)
        answering[..., -1] = False
        current = hidden_states(model, part, layers)
        with torch.no_grad():
            before = hidden_states(reference, part, layers)
        pairs = zip(current, before, strict=True)
        return torch.stack([compare(now, then, answering) for now, then in pairs]).mean(dim=0)


def _relative_distance(
    now: Float[Tensor, "batch *members pos d"],
    before: Float[Tensor, "batch *members pos d"],
    where: Bool[Tensor, "batch *members pos"],
) -> Float[Tensor, "*members"]:
    """Mean squared distance over the mean squared norm before."""
    distance, norm = ((now - before) ** 2).sum(dim=-1), (before**2).sum(dim=-1)
    return (distance * where).sum(dim=(0, -1)) / (norm * where).sum(dim=(0, -1))


def _positive_cosine(
    now: Float[Tensor, "batch *members pos d"],
    before: Float[Tensor, "batch *members pos d"],
    where: Bool[Tensor, "batch *members pos"],
) -> Float[Tensor, "*members"]:
    """Mean of the positive part of the cosine with the states before, offset by a fixed random direction."""
    offset = _fixed_direction(before) * before.norm(dim=-1, keepdim=True)
    cosine = F.relu(F.cosine_similarity(now, before + _OFFSET * offset, dim=-1))
    return (cosine * where).sum(dim=(0, -1)) / where.sum(dim=(0, -1))


def _fixed_direction(states: Float[Tensor, "*axes d"]) -> Float[Tensor, " d"]:
    """The same random unit vector in every call."""
    direction = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(0))
    return (direction / direction.norm()).to(states)
