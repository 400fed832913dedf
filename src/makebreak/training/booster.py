"""Booster: safety training that attenuates what a step of harmful fine-tuning gains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.models import stack_size
from makebreak.prompts import Sequences, World
from makebreak.training.losses import mean_cross_entropy
from makebreak.training.objective import AlignmentObjective

_TINY = 1e-12


@dataclass(frozen=True)
class Booster(AlignmentObjective):
    """SSFT with the regulariser of Booster (Huang et al. 2024, arXiv 2409.01586, equation 1).

    With f the loss of SSFT and h the cross-entropy on instructed answers to unsafe requests, the loss is
    f(w) + λ (h(w) - h(w - α ∇h(w) / ‖∇h(w)‖)), where the step of length α is taken as constant. It trains h
    to fall little along its own gradient.
    """

    tag: ClassVar[str] = "Booster"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "weight", "step_size")
    weight: float = field(default=0.3, metadata={"key": "lambda"})
    """Weight λ of the regulariser."""
    step_size: float = field(default=0.1, metadata={"key": "alpha"})
    """Length α of the harmful step, in the norm of all trained weights."""

    def __post_init__(self) -> None:
        check_positive(weight=self.weight, step_size=self.step_size)

    def batch(
        self, world: World, *, size: int, step: int, steps: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """Returns the preferred answers of a step, and the instructed answers to its unsafe requests."""
        _, harmful = self.data.instructed_sides(world, size=size, step=step, seed=seed, whole=True)
        return self.data.preferred_sequences(world, size=size, step=step, seed=seed), harmful

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss; the metric `attenuation` is h before minus h after the harmful step, in nats."""
        preferred, harmful = batch
        loss_of = _HarmfulLoss(model)
        weights = {name: p for name, p in loss_of.named_parameters() if p.requires_grad}
        before = mean_cross_entropy(model, harmful, share_prefix=False)
        gradients = torch.autograd.grad(
            before.sum(), list(weights.values()), retain_graph=True, allow_unused=True
        )
        steps = [
            torch.zeros_like(p) if g is None else g for p, g in zip(weights.values(), gradients, strict=True)
        ]
        scale = self.step_size / _norms(steps, is_stack=stack_size(model) is not None)
        perturbed = {
            name: p - scale.reshape(scale.shape + (1,) * (p.ndim - scale.ndim)) * g
            for (name, p), g in zip(weights.items(), steps, strict=True)
        }
        after = functional_call(loss_of, perturbed, (harmful,))
        attenuation = before - after
        loss = mean_cross_entropy(model, preferred) + self.weight * attenuation
        return loss, {"attenuation": attenuation.detach()}


class _HarmfulLoss(nn.Module):
    """Cross-entropy of a model as a module, whose weights `functional_call` replaces."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Sequences) -> Tensor:
        return mean_cross_entropy(self.model, batch, share_prefix=False)


def _norms(gradients: list[Tensor], *, is_stack: bool) -> Tensor:
    """Norm of all gradients together: a scalar, or one number for each member of a stack."""
    start = 1 if is_stack else 0
    squares = [g.square().flatten(start).sum(dim=-1) if g.ndim > start else g.square() for g in gradients]
    return torch.stack(squares).sum(dim=0).sqrt().clamp(min=_TINY)
