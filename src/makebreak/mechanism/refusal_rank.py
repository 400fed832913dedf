"""Upper bounds of the rank of refusal: directions whose joint ablation leaves fewer than half refused.

Ablating the difference of means of a layer makes that difference zero, so that one candidate per layer cannot
follow a refusal that several directions of one layer carry. Candidates are, for every layer,

- the difference of means,
- the leading singular vectors of unsafe states about the safe mean,
- gradients of the refusal margin, averaged over clusters of requests that other directions may refuse: with
  respect to the residual stream, within the span of its states, and with respect to the MLP's input.

Directions are ablated at every layer. The bound is on that: where the states of a layer hold the direction in
which the refusal token itself is written, ablating that one is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, forward, intervene, logits_at_last
from makebreak.evaluation import batches, first_tokens, log_odds, next_token_log_probs, prompt_tokens
from makebreak.mechanism.directions import SafeUnsafeRequests, ablate_directions
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import n_layers
from makebreak.prompts import Requests

N_SINGULAR_VECTORS = 4
"""Singular vectors of unsafe states about the safe mean that are candidates, per layer."""
N_CLUSTERS = (2, 4)
"""Numbers of clusters of requests by gradient; the mean gradient of each is a candidate, beside that of
all requests."""
N_REQUESTS = 128
"""Requests, at most, whose gradients are computed and on which the best candidate is chosen."""
STATE_ENERGY = 0.99
"""Share of the states' energy that the directions hold to which gradients are projected."""

Candidates = Callable[[Tensor], list[Tensor]]
"""Directions that may be ablated next, given the basis of those that are."""


class RefusalRankRow(NamedTuple):
    """Refusal under the ablation of a number of directions."""

    n_directions: int
    """Number of directions that are ablated together."""
    refusal_rate: float
    """Share of unsafe requests with a refusal margin above 0."""
    margin: float
    """Mean refusal margin, nats."""
    random_refusal_rate: float
    """The share under the ablation of as many random directions."""
    difference_refusal_rate: float | None
    """The share under the ablation of as many differences of means, for one direction that of Arditi et al.
    (2024); None where no further difference of means is left."""


def refusal_rank_rows(
    model: PreTrainedModel, fit: SafeUnsafeRequests, unsafe: Requests, *, max_directions: int = 8, seed: int
) -> list[RefusalRankRow]:
    """Ablates directions greedily until fewer than half of the unsafe requests are refused.

    Each next direction is the candidate, computed under the ablation so far, whose ablation as well makes the
    requests to fit on refused with the least probability. The number of directions in the last row is an
    upper bound of the rank of refusal if its rate is below one half: a greedy choice among finitely many
    candidates may miss a smaller subspace. The rank is not bounded otherwise.

    Args:
        model: The model.
        fit: Requests from which candidates are computed and chosen.
        unsafe: Requests whose refusal is scored.
        max_directions: Largest number of directions.
        seed: Seed of the random directions and of the clusters.

    Returns:
        One row per number of directions, 0 first.
    """
    refusal, d_model = first_tokens(unsafe, "refused"), model.config.hidden_size
    random = torch.Generator().manual_seed(seed)
    noise = torch.linalg.qr(torch.randn(d_model, max_directions, generator=random)).Q
    choice = fit.unsafe[:N_REQUESTS]
    differences = _greedy_bases(model, choice, lambda basis: _differences(model, fit, basis))
    bases = _greedy_bases(model, choice, lambda basis: _candidates(model, fit, basis, seed))
    rows: list[RefusalRankRow] = []
    for k, basis in zip(range(max_directions + 1), bases, strict=False):
        margins, random_margins = (_margins(model, b, unsafe, refusal) for b in (basis, noise[:, :k]))
        difference = next(differences, None)
        difference_rate = None if difference is None else _rate(_margins(model, difference, unsafe, refusal))
        row = RefusalRankRow(k, _rate(margins), float(margins.mean()), _rate(random_margins), difference_rate)
        rows.append(row)
        if row.refusal_rate < 0.5:
            break
    return rows


def _greedy_bases(model: PreTrainedModel, unsafe: Requests, candidates: Candidates) -> Iterator[Tensor]:
    """Orthonormal bases of growing dimension, from 0, each extended by the best candidate."""
    refusal = first_tokens(unsafe, "refused")
    basis = torch.zeros(model.config.hidden_size, 0)
    while True:
        yield basis
        options = [_extend(basis, vector) for vector in candidates(basis)]
        if not options:
            return
        basis = min(
            options, key=lambda option: float(_margins(model, option, unsafe, refusal).sigmoid().mean())
        )


def _differences(model: PreTrainedModel, fit: SafeUnsafeRequests, basis: Tensor) -> list[Tensor]:
    """Differences of means of all layers under the ablation of a basis."""
    differences = [u.mean(dim=0) - s.mean(dim=0) for s, u in _states(model, fit, basis)]
    return [difference for difference in differences if difference.norm() > 0]


def _candidates(model: PreTrainedModel, fit: SafeUnsafeRequests, basis: Tensor, seed: int) -> list[Tensor]:
    """All candidates of all layers under the ablation of a basis."""
    states, candidates = _states(model, fit, basis), _differences(model, fit, basis)
    gradients = _gradients(model, fit.unsafe[:N_REQUESTS], basis)
    for (s, u), by_states, by_mlp in zip(states, gradients[::2], gradients[1::2], strict=True):
        candidates += list(torch.linalg.svd(u - s.mean(dim=0), full_matrices=False).Vh[:N_SINGULAR_VECTORS])
        span = _leading_directions(torch.cat([s, u]))
        candidates += _cluster_means(by_states @ span @ span.T, seed) + _cluster_means(by_mlp, seed)
    return [candidate for candidate in candidates if candidate.norm() > 0]


def _states(model: PreTrainedModel, fit: SafeUnsafeRequests, basis: Tensor) -> list[tuple[Tensor, Tensor]]:
    """States of safe and unsafe requests before every layer under the ablation of a basis."""
    with _ablation(model, basis):
        safe, unsafe = (end_of_text_activations(model, requests, _sites(model)) for requests in fit)
    return list(zip(safe, unsafe, strict=True))


def _leading_directions(states: Tensor) -> Tensor:
    """Orthonormal columns that hold `STATE_ENERGY` of the energy of states."""
    _, s, vh = torch.linalg.svd(states, full_matrices=False)
    energy = s.square().cumsum(dim=0) / s.square().sum()
    return vh[: int((energy < STATE_ENERGY).sum()) + 1].T


def _cluster_means(directions: Tensor, seed: int) -> list[Tensor]:
    """Mean of directions, and means of clusters of them for each of `N_CLUSTERS`."""
    directions = torch.nn.functional.normalize(directions[directions.norm(dim=1) > 0], dim=1)
    means = [directions.mean(dim=0)] if len(directions) else []
    for n in N_CLUSTERS:
        if len(directions) >= n:
            fitted = KMeans(n, n_init="auto", random_state=seed).fit(directions.double().numpy())
            means += list(torch.from_numpy(fitted.cluster_centers_).float())
    return means


def _gradients(model: PreTrainedModel, unsafe: Requests, basis: Tensor) -> list[Tensor]:
    """∂margin/∂activation at the last position of every request that is refused, by layer and site.

    The sites of a layer are the residual stream before it and the input of its MLP.
    """
    sites = [site for pair in zip(_sites(model), _sites(model, "mlp.hook_in"), strict=True) for site in pair]
    refusal, start, parts = first_tokens(unsafe, "refused"), 0, []
    for batch in batches(unsafe, model):
        goal = refusal[start : start + len(batch)]
        start += len(batch)
        tokens, last = prompt_tokens(batch)
        index = torch.arange(len(last))
        where = torch.zeros(tokens.shape, dtype=torch.bool)
        where[index, last] = True
        offsets = [torch.zeros(len(last), model.config.hidden_size, requires_grad=True) for _ in sites]
        with _ablation(model, basis), ExitStack() as stack:
            for site, offset in zip(sites, offsets, strict=True):
                stack.enter_context(intervene(model, site, add(offset), where))
            stack.enter_context(logits_at_last(model, last))
            log_p = forward(model, tokens).logits[:, 0].float().log_softmax(-1).cpu()
        margins = log_odds(log_p, goal)
        is_refused = (margins > 0).detach()
        parts.append([gradient[is_refused] for gradient in torch.autograd.grad(margins.sum(), offsets)])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def _sites(model: PreTrainedModel, name: str = "hook_resid_pre") -> list[str]:
    return [f"blocks.{layer}.{name}" for layer in range(n_layers(model))]


@contextmanager
def _ablation(model: PreTrainedModel, basis: Tensor) -> Iterator[None]:
    """`ablate_directions` for a basis that may be empty."""
    if basis.shape[1] == 0:
        yield
    else:
        with ablate_directions(model, basis):
            yield


def _margins(model: PreTrainedModel, basis: Tensor, requests: Requests, refusal: Tensor) -> Tensor:
    """Refusal margins under the ablation of a basis."""
    with _ablation(model, basis):
        return log_odds(next_token_log_probs(model, requests, narrow=True), refusal)


def _rate(margins: Tensor) -> float:
    """Share of requests that are refused."""
    return float((margins > 0).double().mean())


def _extend(basis: Tensor, vector: Tensor) -> Tensor:
    return torch.linalg.qr(torch.cat([basis, vector[:, None]], dim=1)).Q
