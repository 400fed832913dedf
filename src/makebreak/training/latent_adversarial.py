"""Latent adversarial training: refusals trained under the worst-case perturbation of the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward, intervene
from makebreak.configs import check_positive
from makebreak.models import by_request, member_rows
from makebreak.prompts import Sequences, World, sequences
from makebreak.training.data import concatenate
from makebreak.training.losses import mean_cross_entropy
from makebreak.training.objective import AlignmentObjective

_PATH_LENGTH = 2.5
"""Length of all gradient steps together, in radii of the ball (Madry et al. 2018)."""
_TINY = 1e-12


@dataclass(frozen=True)
class LatentAdversarialTraining(AlignmentObjective):
    """Latent adversarial training (Casper et al. 2024; Sheshadri et al. 2024).

    The loss is the mean of SSFT's and of the cross-entropy on refusals under the perturbation of the residual
    stream, at every token of the prompt, that makes them least likely.
    """

    tag: ClassVar[str] = "LatentAdversarial"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "radius")
    depth: float = 0.5
    """Depth of the block whose output is perturbed, as a fraction of the blocks in (0, 1]."""
    radius: float = 0.3
    """Radius of the ball of each token's perturbation, in units of the mean norm of the states there."""
    steps: int = 5
    """Steps of projected gradient ascent, each 2.5 · radius / steps long."""

    def __post_init__(self) -> None:
        check_positive(radius=self.radius, steps=self.steps)
        if not 0 < self.depth <= 1:
            raise ValueError(f"depth = {self.depth}: expected a fraction of the blocks, above 0")

    def batch(
        self, world: World, *, size: int, step: int, steps: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """Returns the requests to be answered and those to be refused, with their whole answers."""
        groups = self.data.requests(world, size=size, step=step, seed=seed)
        parts: dict[str, list[Sequences]] = {}
        for requests, answer in groups:
            parts.setdefault(answer, []).append(sequences(world, requests, answer, whole=True))
        if set(parts) != {"instructed", "refused"}:
            raise ValueError(
                f"safe_share = {self.data.safe_share}: expected rows to answer and rows to refuse"
            )
        return concatenate(parts["instructed"]), concatenate(parts["refused"])

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss; the metric `adversarial` is its term under the worst perturbation, in nats."""
        answered, refused = batch
        layer = max(round(self.depth * model.config.num_hidden_layers), 1)
        positions = torch.arange(refused.tokens.shape[-1], device=refused.tokens.device)
        prompt = (positions <= refused.decision[..., None])[..., None]
        site = f"blocks.{layer - 1}.hook_resid_post"

        def adversarial_loss(perturbation: Tensor) -> Tensor:
            rows = member_rows(model, perturbation * prompt)

            def perturb(
                states: Tensor,
            ) -> Tensor:  # of all positions of a pass, which may end before the last
                return states + rows[:, : len(states) // len(rows)].flatten(0, 1)

            with intervene(model, site, perturb):
                return mean_cross_entropy(model, refused, share_prefix=False)

        worst = self._worst_perturbation(_states(model, refused, site), prompt, adversarial_loss)
        clean = mean_cross_entropy(model, concatenate([answered, refused]))
        adversarial = adversarial_loss(worst)
        return (clean + adversarial) / 2, {"adversarial": adversarial.detach()}

    def _worst_perturbation(
        self,
        states: Float[Tensor, "batch *members pos d_model"],
        prompt: Bool[Tensor, "batch *members pos 1"],
        loss: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch *members pos d_model"]:
        """Perturbation of each token of the prompts by projected gradient ascent on a loss."""
        norms = states.norm(dim=-1, keepdim=True) * prompt
        mean_norm = norms.sum(dim=(0, -2, -1)) / prompt.sum(dim=(0, -2, -1))
        radius = (self.radius * mean_norm)[..., None, None]
        perturbation = torch.zeros_like(states)
        for _ in range(self.steps):
            perturbation.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(perturbation).sum(), perturbation)
            direction = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=_TINY)
            perturbation = perturbation.detach() + _PATH_LENGTH * radius / self.steps * direction
            norm = perturbation.norm(dim=-1, keepdim=True)
            perturbation = perturbation * (radius / norm.clamp(min=_TINY)).clamp(max=1.0)
        return perturbation.detach()


@torch.no_grad()
def _states(
    model: PreTrainedModel, batch: Sequences, site: str
) -> Float[Tensor, "batch *members pos d_model"]:
    """Activations of a site at every position."""
    rows, recorded = member_rows(model, batch.tokens), []

    def record(activations: Tensor) -> Tensor:
        recorded.append(activations)
        return activations

    with intervene(model, site, record):
        forward(model, rows, lm_head=False)
    return by_request(model, recorded[0].unflatten(0, rows.shape))
