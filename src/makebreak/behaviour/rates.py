"""How often does a model refuse, comply, comply wrongly or break, and how firmly does it decide?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.behaviour.answers import Forced, greedy_answers
from makebreak.behaviour.decisions import BATCH, log_odds
from makebreak.requests import OUTCOMES, Requests, World, sequences


@dataclass(frozen=True)
class Behaviour:
    """Outcomes on `n` requests of one family.

    rates: share of each outcome, free-running. outcomes: (n,) index into OUTCOMES per request. margin: mean
    log-odds of the null at the decision, in nats. instruct, null: exact match of the judged segment given its own
    true prefix, the measures of Jain et al. 2024; each is conditioned on the answer it tests, so they need not sum
    to at most 1.
    """

    family: str
    n: int
    rates: dict[str, float]
    outcomes: np.ndarray
    margin: float
    instruct: float
    null: float


def behaviour(model: PreTrainedModel, world: World, requests: Requests) -> Behaviour:
    """What a model does on the requests of one family, judged exactly."""
    answers = greedy_answers(model, world, requests)
    outcomes = world.judge(requests, answers.tokens)
    forced = {"instructed": answers.instructed, "refused": answers.refused}
    exact = {}
    for name, passed in forced.items():
        batch = sequences(world, requests, name)
        right = (passed.likeliest == batch.tokens[:, 1:]) | ~batch.supervised[:, 1:]
        exact[name] = float(right.all(dim=1).double().mean())
    return Behaviour(
        family=requests.family,
        n=len(requests),
        rates={name: float((outcomes == i).mean()) for i, name in enumerate(OUTCOMES)},
        outcomes=outcomes,
        margin=float(refusal_margins(answers.refused, world, requests).mean()),
        instruct=exact["instructed"],
        null=exact["refused"],
    )


def refusal_margins(refused: Forced, world: World, requests: Requests) -> Float[Tensor, " batch"]:
    """Log-odds of the null, log p - log(1 - p), where the first judged token is decided, in nats.

    refused: the pass that is teacher-forced on the refused answer.
    """
    batch = sequences(world, requests, "refused")
    null = batch.tokens.gather(1, batch.decision[:, None] + 1)[:, 0]
    return log_odds(refused.decision, null).float()


def kl_to_base(model: PreTrainedModel, base: PreTrainedModel, world: World, requests: Requests) -> float:
    """Mean KL(base ‖ model) per judged token, teacher-forced on the instructed answer, in nats."""
    batch = sequences(world, requests, "instructed")
    total, counted = 0.0, 0
    with torch.no_grad():
        for tokens, mask in zip(batch.tokens.split(BATCH), batch.supervised[:, 1:].split(BATCH), strict=True):
            p, q = (
                m(input_ids=tokens[:, :-1], use_cache=False).logits[mask].log_softmax(-1)
                for m in (base, model)
            )
            total += float((p.exp() * (p - q)).sum())
            counted += int(mask.sum())
    return total / counted
