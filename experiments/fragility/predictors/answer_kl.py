"""KL(model ‖ base) at every token of harmful answers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.activations import forward, logits_at
from makebreak.model_zoo import AlignedPair
from makebreak.prompts import sequences


def answer_kl(subject: AlignedPair) -> Float[Tensor, " t"]:
    """Mean KL(model ‖ base) of each judged token of instructed answers to unsafe requests, nats."""
    batch = sequences(subject.world, unsafe_requests(subject), "instructed")
    target = batch.supervised[:, 1:]
    log_probs = []
    for model in (subject.model, subject.base):
        with torch.no_grad(), logits_at(model, target):
            log_probs.append(forward(model, batch.tokens[:, :-1]).logits[0].double().log_softmax(-1))
    after, before = log_probs
    divergence = (after.exp() * (after - before)).sum(dim=-1)
    place = target.cumsum(dim=1)[target] - 1
    totals = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add(0, place, divergence)
    return totals / torch.bincount(place)
