"""Next-token distribution at the end of the prompt, where the first token of the answer is decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward, logits_at_last
from makebreak.models import batch_tokens
from makebreak.prompts import Requests, TextRequests

MAX_BATCH_SIZE = 512
"""Most requests of one forward pass."""

RequestsT = TypeVar("RequestsT", bound=Requests)


def max_batch_size(model: PreTrainedModel, width: int) -> int:
    """Returns how many sequences of a width one forward pass of a model takes."""
    return max(min(MAX_BATCH_SIZE, batch_tokens(model) // width), 1)


def batches(requests: RequestsT, model: PreTrainedModel) -> Iterator[RequestsT]:
    """Yields the requests in order, in batches small enough for one forward pass of a model."""
    size = max_batch_size(model, requests.prompt.shape[1])
    return (requests[slice(start, start + size)] for start in range(0, len(requests), size))  # type: ignore[misc, return-value]


def prompt_tokens(requests: Requests) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]]:
    """Returns the token ids of the prompts and the last position of each."""
    return torch.from_numpy(requests.prompt), torch.from_numpy(requests.prompt_length) - 1


def next_token_log_probs(
    model: PreTrainedModel, requests: Requests, *, narrow: bool = False
) -> Float[Tensor, "batch d_vocab"]:
    """Returns the log-probabilities, in nats, of the first token after each prompt.

    Args:
        model: The model.
        requests: The requests.
        narrow: Whether the last MLP is computed at the end of the prompts only (`logits_at_last`).

    Returns:
        Log-probabilities on the CPU.
    """
    log_probs = []
    for batch in batches(requests, model):
        tokens, last = prompt_tokens(batch)
        with torch.no_grad(), logits_at_last(model, last, narrow=narrow):
            log_probs.append(forward(model, tokens).logits[:, 0].float().log_softmax(-1).cpu())
    return torch.cat(log_probs)


def first_tokens(requests: Requests, answer: str) -> Int[Tensor, " batch"] | Int[Tensor, "batch k"]:
    """Returns the first token of an answer, or for text the set of tokens that a refusal may begin with.

    Args:
        requests: Requests that are judged from the first token of the answer on.
        answer: `refused` or `instructed`; for text requests only `refused`.

    Returns:
        (batch,) token ids; for text requests (batch, k) ids of the tokens that begin a refusal.

    Raises:
        ValueError: If the judged segment begins later, where the decision depends on earlier tokens of the
            answer, or if `answer` is `instructed` for text requests, whose answers are not known.
    """
    if isinstance(requests, TextRequests):
        if answer != "refused":
            raise ValueError(
                f"answer {answer!r}: the answers to text requests are not known; expected 'refused', "
                "whose first tokens are"
            )
        return torch.from_numpy(requests.openers)
    if requests.judged[:, 0].any():
        raise ValueError(
            f"family {requests.family!r} is judged on a later output: "
            "expected a family that is judged on the first"
        )
    return torch.from_numpy((requests.refused if answer == "refused" else requests.instructed)[:, 0])


def token_sets(target: Int[Tensor, " batch"] | Int[Tensor, "batch k"]) -> Int[Tensor, "batch k"]:
    """Returns one set of tokens per row, from one token per row or from sets."""
    return target if target.ndim == 2 else target[:, None]


def log_odds(
    log_p: Float[Tensor, "batch d_vocab"], target: Int[Tensor, " batch"] | Int[Tensor, "batch k"]
) -> Float[Tensor, " batch"]:
    """Returns the log-odds log p - log(1 - p) of a token or of a set of tokens.

    Args:
        log_p: Log-probabilities of the next token.
        target: One token per row, or a set of k tokens per row.

    Returns:
        Log-odds in nats, float64.
    """
    log_p = log_p.double()
    tokens = token_sets(target)
    others = log_p.scatter(1, tokens, -torch.inf).logsumexp(dim=1)
    return log_p.gather(1, tokens).logsumexp(dim=1) - others


def is_likeliest(
    log_p: Float[Tensor, "*m batch d_vocab"], target: Int[Tensor, " batch"] | Int[Tensor, "batch k"]
) -> Bool[Tensor, "*m batch"]:
    """Returns whether the likeliest next token is the target, or one of a set of k targets, in each row."""
    return (log_p.argmax(dim=-1, keepdim=True) == token_sets(target)).any(dim=-1)


def likeliest_other(
    log_p: Float[Tensor, "batch d_vocab"], target: Int[Tensor, " batch"] | Int[Tensor, "batch k"]
) -> Int[Tensor, " batch"]:
    """Returns the likeliest next token that is not the target, nor one of a set of k targets, in each row."""
    return log_p.scatter(1, token_sets(target), -torch.inf).argmax(dim=-1)


def decision_kl(
    before: Float[Tensor, "batch d_vocab"], after: Float[Tensor, "batch d_vocab"]
) -> Float[Tensor, " batch"]:
    """Returns KL(before ‖ after) of each next-token distribution, in nats, from log-probabilities."""
    return (before.exp() * (before - after)).sum(dim=1)
