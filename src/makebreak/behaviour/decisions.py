"""What does a model decide where it has read the request: which token begins its answer, and how firmly?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import run
from makebreak.requests import Requests

BATCH = 512


def batches(requests: Requests) -> Iterator[Requests]:
    """The requests, so many at a time that a forward fits into memory."""
    return (requests[slice(start, start + BATCH)] for start in range(0, len(requests), BATCH))


def prompts(requests: Requests) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]]:
    """Prompts, and the last position of each."""
    return torch.from_numpy(requests.prompt), torch.from_numpy(requests.prompt_length) - 1


def decide(model: PreTrainedModel, requests: Requests) -> Float[Tensor, "batch d_vocab"]:
    """log p of the token that begins the answer."""
    found = []
    for part in batches(requests):
        tokens, last = prompts(part)
        with torch.no_grad():
            logits = run(model, tokens).logits
        found.append(logits[torch.arange(len(last)), last].log_softmax(-1))
    return torch.cat(found)


def first_tokens(requests: Requests, answer: str) -> Int[Tensor, " batch"]:
    """The token that begins the `refused` or the `instructed` answer.

    Raises ValueError where the judged segment begins later: what is decided there depends on what was answered before.
    """
    if requests.judged[:, 0].any():
        raise ValueError(f"family {requests.family!r} is judged on a later output: expected one judged on the first")
    return torch.from_numpy((requests.refused if answer == "refused" else requests.instructed)[:, 0])


def log_odds(log_p: Float[Tensor, "batch d_vocab"], target: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """log p - log(1 - p) of one token, nats, float64."""
    p = log_p.double()
    others = p.scatter(1, target[:, None], -torch.inf).logsumexp(dim=1)
    return p.gather(1, target[:, None])[:, 0] - others


def decision_kl(
    before: Float[Tensor, "batch d_vocab"], after: Float[Tensor, "batch d_vocab"]
) -> Float[Tensor, " batch"]:
    """KL(before ‖ after) of each decision, nats, from log probabilities."""
    return (before.exp() * (before - after)).sum(dim=1)
