"""Which directions of the residual stream does everything above them hear?

The Gauss-Newton matrix of the decision, F = E[∂log p/∂x · ∂log p/∂xᵀ] over labels drawn from the model's own p (for
softmax outputs the Fisher information), says how much the answer's distribution moves with the state x at the end of
the request: KL ≈ ½ δᵀFδ. It is local: a way that opens only when a direction passes a threshold is not in it, so
what lies in its null space is *silent* only if it also changes nothing when it is really put there.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, at_last, intervene, run
from makebreak.behaviour import batches, prompts
from makebreak.geometry import Subspace, energy_rank
from makebreak.models import n_layers
from makebreak.requests import Requests

HEARD = 0.99  # of tr F


@dataclass(frozen=True)
class Downstream:
    """fisher: (d, d), float64, of one layer's input."""

    fisher: Float[Tensor, "d d"]

    def null(self, heard: float = HEARD) -> Subspace:
        """What is left beside the fewest directions that hold a share of tr F: moving there changes hardly anything."""
        values, vectors = torch.linalg.eigh(self.fisher)
        k = energy_rank(values.clamp(min=0).flip(0).sqrt(), heard)
        return Subspace(vectors.flip(1)[:, k:])

    def gain(self, movement: Float[Tensor, "n d"]) -> float:
        """Mean of δᵀFδ over mean of ‖δ‖², in units of what a random direction has: 1 is chance."""
        delta = movement.double()
        heard = (delta @ self.fisher * delta).sum() / delta.square().sum()
        return float(heard / (self.fisher.trace() / len(self.fisher)))


def downstream(model: PreTrainedModel, requests: Requests, *, draws: int = 8, seed: int) -> list[Downstream]:
    """Of every layer's input (`hook_resid_pre`) at the last position of the prompt. draws: labels per request."""
    random = torch.Generator().manual_seed(seed)
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(model))]
    sums = [
        torch.zeros(model.config.hidden_size, model.config.hidden_size, dtype=torch.float64) for _ in sites
    ]
    for part in batches(requests):
        tokens, last = prompts(part)
        where = torch.arange(tokens.shape[1]) == last[:, None]
        moves = [torch.zeros(len(part), model.config.hidden_size, requires_grad=True) for _ in sites]
        with ExitStack() as stack:
            for site, move in zip(sites, moves, strict=True):
                stack.enter_context(intervene(model, site, add(move), where))
            stack.enter_context(at_last(model, last))
            log_p = run(model, tokens).logits[:, 0].float().log_softmax(-1)
        labels = torch.multinomial(log_p.detach().exp().cpu(), draws, replacement=True, generator=random)
        for draw in range(draws):
            chosen = log_p.gather(1, labels[:, draw, None].to(log_p.device)).sum()
            gradients = torch.autograd.grad(chosen, moves, retain_graph=draw < draws - 1)
            for total, gradient in zip(sums, gradients, strict=True):
                g = gradient.double()
                total += g.T @ g
    return [Downstream(total / (len(requests) * draws)) for total in sums]
