"""How is refusal made to hold where activations are pushed away from it? By training against the worst push."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, intervene
from makebreak.configs import check_positive
from makebreak.requests import Sequences, World, sequences
from makebreak.training.data import Data, join
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class LatentAdversarial:
    """Latent adversarial training (Casper et al. 2024; Sheshadri et al. 2024): SSFT, and as much of cross-entropy on
    refusals under the push of the residual stream, at every token of the prompt, that makes them least likely.

    depth: of the block behind which it is pushed, a fraction. radius: of the ball of each token's push, times the mean
    norm there. steps: of projected gradient ascent, each 2.5 radius / steps long.
    """

    data: Data = Data()
    depth: float = 0.5
    radius: float = 0.3
    steps: int = 5

    def __post_init__(self) -> None:
        check_positive(radius=self.radius, steps=self.steps)
        if not 0 < self.depth <= 1:
            raise ValueError(f"depth = {self.depth}: expected a fraction of the blocks, above 0")

    def batch(
        self, world: World, *, size: int, step: int, steps: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """(what is answered, what is refused)."""
        parts = self.data.requests(world, size=size, step=step, seed=seed)
        made = {answer: sequences(world, requests, answer, whole=True) for requests, answer in parts}
        if set(made) != {"instructed", "refused"}:
            raise ValueError(
                f"safe_share = {self.data.safe_share}: expected rows to answer and rows to refuse"
            )
        return made["instructed"], made["refused"]

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        answered, refused = batch
        layer = max(round(self.depth * model.config.num_hidden_layers), 1) - 1
        site = f"blocks.{layer}.hook_resid_post"
        where = (
            torch.arange(refused.tokens.shape[1], device=refused.tokens.device) <= refused.decision[:, None]
        )

        def pushed(push: Tensor) -> Tensor:
            with intervene(model, site, add(push), where):
                return mean_cross_entropy(model, refused, apart=False)

        worst = self._worst(model, refused, where, layer, pushed)
        clean, adversarial = mean_cross_entropy(model, join([answered, refused])), pushed(worst)
        return (clean + adversarial) / 2, {"pushed": float(adversarial.detach())}

    def _worst(self, model: PreTrainedModel, refused: Sequences, where: Tensor, layer: int, pushed) -> Tensor:
        """(k, d_model), one push for each token of `where`, in reading order."""
        with torch.no_grad():
            states = model.base_model(input_ids=refused.tokens, output_hidden_states=True).hidden_states[
                layer + 1
            ]
        here = states[where]
        radius = self.radius * here.norm(dim=1).mean()
        push = torch.zeros_like(here)
        for _ in range(self.steps):
            push.requires_grad_()
            (gradient,) = torch.autograd.grad(pushed(push), push)
            step = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
            push = push.detach() + 2.5 * radius / self.steps * step
            push = push * (radius / push.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        return push.detach()
