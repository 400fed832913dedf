"""KL(model ‖ base) at every token of harmful answers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.activations import forward
from makebreak.evaluation import batches
from makebreak.model_zoo import AlignedPair
from makebreak.prompts import Requests, sequences


def answer_kl(subject: AlignedPair) -> Float[Tensor, " t"]:
    """Mean KL(model ‖ base) of each judged token of instructed answers to unsafe requests, nats."""
    requests = unsafe_requests(subject)
    parts = [_token_divergences(subject, batch) for batch in batches(requests, subject.model)]
    place, divergence = (torch.cat(column) for column in zip(*parts, strict=True))
    totals = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add(0, place, divergence)
    return totals / torch.bincount(place)


def _token_divergences(
    subject: AlignedPair, requests: Requests
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Number of each judged token within its answer, from 0, and the KL there."""
    batch = sequences(subject.world, requests, "instructed")
    with torch.no_grad():
        model, base = (
            forward(m, batch.tokens[:, :-1]).logits.double().log_softmax(-1)
            for m in (subject.model, subject.base)
        )
    divergence = (model.exp() * (model - base)).sum(dim=-1)
    target = batch.supervised[:, 1:]
    return target.cumsum(dim=1)[target] - 1, divergence[target]
