"""Per-layer Fisher (Gauss-Newton) matrices of the decision with respect to the residual stream.

F = E[∂log p/∂x · ∂log p/∂xᵀ] over labels drawn from the model's own p says how much the distribution of the
answer's first token changes with the state x at the end of the request: KL ≈ ½ δᵀFδ. The matrix is local and
an average over requests. It describes a movement; it is no measure of silence: a path that opens only beyond
a threshold is not in it, and a confident model rarely draws the labels that carry it (docs/errata.md, T3).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, add, forward, intervene, logits_at_last
from makebreak.evaluation import batches, prompt_tokens
from makebreak.geometry import Subspace, energy_rank
from makebreak.models import n_layers
from makebreak.prompts import Requests

FISHER_ENERGY = 0.99
"""Share of tr F that the directions outside the null space hold."""


@dataclass(frozen=True)
class LayerFisher:
    """Fisher matrix of the decision with respect to one layer's input."""

    fisher: Float[Tensor, "d d"]
    """The matrix, float64."""

    def null_space(self, energy: float = FISHER_ENERGY) -> Subspace:
        """Complement of the fewest eigenvectors that hold a share of tr F: movements there change little."""
        values, vectors = torch.linalg.eigh(self.fisher)
        k = energy_rank(values.clamp(min=0).flip(0).sqrt(), energy)
        return Subspace(vectors.flip(1)[:, k:])

    def gain(self, movement: Float[Tensor, "n d"]) -> float:
        """Mean of δᵀFδ over mean of ‖δ‖², in units of a random direction's: 1 is chance."""
        delta = movement.double()
        value = (delta @ self.fisher * delta).sum() / delta.square().sum()
        return float(value / (self.fisher.trace() / len(self.fisher)))


def layer_fisher(
    model: PreTrainedModel, requests: Requests, *, n_samples: int = 8, seed: int
) -> list[LayerFisher]:
    """Fisher matrices of every layer's input (`hook_resid_pre`) at the last position of the prompt.

    Args:
        model: The model whose decision is differentiated.
        requests: Requests over which the matrices are averaged.
        n_samples: Labels drawn per request.
        seed: Seed of the labels.

    Returns:
        One matrix per layer.
    """
    random = torch.Generator().manual_seed(seed)
    d_model = model.config.hidden_size
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(model))]
    sums = [torch.zeros(d_model, d_model, dtype=torch.float64) for _ in sites]
    for part in batches(requests, model):
        tokens, last = prompt_tokens(part)
        cache = PrefixCache.of_rows(model, tokens, int(last.min()))  # an offset changes no earlier position
        tokens, last = tokens[:, cache.n_tokens :], last - cache.n_tokens
        where = torch.arange(tokens.shape[1]) == last[:, None]
        offsets = [torch.zeros(len(part), d_model, requires_grad=True) for _ in sites]
        with ExitStack() as stack:
            for site, offset in zip(sites, offsets, strict=True):
                stack.enter_context(intervene(model, site, add(offset), where))
            stack.enter_context(logits_at_last(model, last))
            log_p = forward(model, tokens, cache=cache).logits[:, 0].float().log_softmax(-1)
        labels = torch.multinomial(log_p.detach().exp().cpu(), n_samples, replacement=True, generator=random)
        for sample in range(n_samples):
            log_p_labels = log_p.gather(1, labels[:, sample, None].to(log_p.device)).sum()
            gradients = torch.autograd.grad(log_p_labels, offsets, retain_graph=sample < n_samples - 1)
            for total, gradient in zip(sums, gradients, strict=True):
                g = gradient.double()
                total += g.T @ g
    return [LayerFisher(total / (len(requests) * n_samples)) for total in sums]
