"""Per-layer Fisher (Gauss-Newton) matrices of the decision with respect to the residual stream.

F = Jᵀ(diag p - ppᵀ)J, with J the Jacobian of the logits after the prompt, says how much the distribution of
the answer's first token changes with the state x at the end of the request: KL ≈ ½ δᵀFδ. It is estimated by
Gaussian vectors z: the gradient of Σ_v logit_v √p_v (z_v - √p_v Σ_w √p_w z_w) has the second moment F, also
where the model is confident. The matrix is local: a path that opens only beyond a threshold is not in it.
It describes a movement; whether a movement is silent is judged by its effect (`stitch`).
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
FISHER_SAMPLES = 32
"""Gaussian vectors per request."""


@dataclass(frozen=True)
class LayerFisher:
    """Fisher matrix of the decision with respect to one layer's input."""

    fisher: Float[Tensor, "d d"]
    """The mean over requests, float64."""
    gain: float | None
    """Mean over requests of δᵀF_iδ, each with the request's own matrix F_i, in units of a random direction's
    of the same norm: 1 is chance. None without a movement."""

    def null_space(self, energy: float = FISHER_ENERGY) -> Subspace:
        """Complement of the fewest eigenvectors that hold a share of tr F: movements there change little."""
        values, vectors = torch.linalg.eigh(self.fisher)
        k = energy_rank(values.clamp(min=0).flip(0).sqrt(), energy)
        return Subspace(vectors.flip(1)[:, k:])


def layer_fisher(
    model: PreTrainedModel,
    requests: Requests,
    movement: Float[Tensor, "k n d"] | None = None,
    *,
    n_samples: int = FISHER_SAMPLES,
    seed: int,
) -> list[LayerFisher]:
    """Fisher matrices of every layer's input (`hook_resid_pre`) at the last position of the prompt.

    Args:
        model: The model whose decision is differentiated.
        requests: Requests over which the matrices are averaged.
        movement: Movement of each request's state at each of the k layers, for the gain.
        n_samples: Gaussian vectors per request. The standard error of an entry falls with the root of their
            number times that of requests.
        seed: Seed of the vectors.

    Returns:
        One matrix per layer.
    """
    random = torch.Generator().manual_seed(seed)
    d_model, depth = model.config.hidden_size, n_layers(model)
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(depth)]
    moments = torch.zeros(depth, d_model, d_model, dtype=torch.float64)
    energies = torch.zeros(2, depth, dtype=torch.float64)  # of the movement, and of a random one
    start = 0
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
            logits = forward(model, tokens, cache=cache).logits[:, 0].float()
        root_p = logits.detach().softmax(-1).sqrt()
        delta = None if movement is None else movement[:depth, start : start + len(part)].double()
        start += len(part)
        for sample in range(n_samples):
            z = torch.randn(logits.shape, generator=random).to(logits.device)
            weights = root_p * (z - root_p * (root_p * z).sum(dim=-1, keepdim=True))
            gradients = torch.autograd.grad(
                (logits * weights).sum(), offsets, retain_graph=sample < n_samples - 1
            )
            g = torch.stack(gradients).double()
            moments += g.mT @ g
            if delta is not None:
                energies[0] += (g * delta).sum(dim=-1).square().sum(dim=-1)
                sizes = g.square().sum(dim=-1) * delta.square().sum(dim=-1)
                energies[1] += sizes.sum(dim=-1) / d_model
    moments /= len(requests) * n_samples
    gains = [float(a / b) if b > 0 else None for a, b in energies.T]
    return [LayerFisher(matrix, gain) for matrix, gain in zip(moments, gains, strict=True)]
