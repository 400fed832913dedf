"""What does a model decide where it has read the request: which token begins its answer, and how firmly?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import at_last, run
from makebreak.requests import Requests, TextRequests

BATCH, TOKENS = 512, 32_768

Asked = TypeVar("Asked", bound=Requests)


def batches(requests: Asked) -> Iterator[Asked]:
    """The requests, so many at a time that a forward fits into memory."""
    size = max(min(BATCH, TOKENS // requests.prompt.shape[1]), 1)
    return (requests[slice(start, start + size)] for start in range(0, len(requests), size))  # type: ignore[misc, return-value]


def prompts(requests: Requests) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]]:
    """Prompts, and the last position of each."""
    return torch.from_numpy(requests.prompt), torch.from_numpy(requests.prompt_length) - 1


def decide(model: PreTrainedModel, requests: Requests) -> Float[Tensor, "batch d_vocab"]:
    """Log p of the token that begins the answer."""
    found = []
    for part in batches(requests):
        tokens, last = prompts(part)
        with torch.no_grad(), at_last(model, last):
            found.append(run(model, tokens).logits[:, 0].float().log_softmax(-1).cpu())
    return torch.cat(found)


def first_tokens(requests: Requests, answer: str) -> Int[Tensor, " batch"] | Int[Tensor, "batch k"]:
    """The token that begins the `refused` or the `instructed` answer; of text, all that a refusal may begin with.

    Raises ValueError where the judged segment begins later: what is decided there depends on what was answered before;
    or for an answer that is not known.
    """
    if isinstance(requests, TextRequests):
        if answer != "refused":
            raise ValueError(f"answer {answer!r} to text is not known beforehand: expected 'refused'")
        return torch.from_numpy(requests.openers)
    if requests.judged[:, 0].any():
        raise ValueError(
            f"family {requests.family!r} is judged on a later output: expected one judged on the first"
        )
    return torch.from_numpy((requests.refused if answer == "refused" else requests.instructed)[:, 0])


def log_odds(
    log_p: Float[Tensor, "batch d_vocab"], target: Int[Tensor, " batch"] | Int[Tensor, "batch k"]
) -> Float[Tensor, " batch"]:
    """Log p - log(1 - p) of one token, or of a set of them, nats, float64."""
    p, tokens = log_p.double(), target if target.ndim == 2 else target[:, None]
    others = p.scatter(1, tokens, -torch.inf).logsumexp(dim=1)
    return p.gather(1, tokens).logsumexp(dim=1) - others


def decision_kl(
    before: Float[Tensor, "batch d_vocab"], after: Float[Tensor, "batch d_vocab"]
) -> Float[Tensor, " batch"]:
    """KL(before ‖ after) of each decision, nats, from log probabilities."""
    return (before.exp() * (before - after)).sum(dim=1)
