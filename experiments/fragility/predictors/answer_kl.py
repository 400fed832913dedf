"""KL(model ‖ base) at every token of harmful answers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.activations import forward
from makebreak.model_zoo import Subject
from makebreak.prompts import sequences


def answer_kl(subject: Subject) -> Float[Tensor, " t"]:
    """Mean KL(model ‖ base) of each judged token of instructed answers to unsafe requests, nats."""
    batch = sequences(subject.world, unsafe_requests(subject), "instructed")
    with torch.no_grad():
        model, base = (
            forward(m, batch.tokens[:, :-1]).logits.double().log_softmax(-1)
            for m in (subject.model, subject.base)
        )
    divergence = (model.exp() * (model - base)).sum(dim=-1)
    target = batch.supervised[:, 1:]
    place = target.cumsum(dim=1)[target] - 1
    totals = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add(0, place, divergence[target])
    return totals / torch.bincount(place)
