"""Answers and behaviour of all models of a stack at once, each on requests of its own.

Results equal those of `greedy_answers`, `evaluate_behaviour` and `kl_to_base` of every single model up to
rounding. A stack has no key-value cache, so that generation runs whole sequences, once for each token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward
from makebreak.evaluation.answers import GreedyAnswers
from makebreak.evaluation.rates import Behaviour, behaviour_of
from makebreak.models import by_request, member_rows, stack_size
from makebreak.prompts import Requests, Sequences, World, sequences

_MOST_TOKENS = 2**20
"""Most tokens, of all members together, of one forward pass."""


def stack_behaviours(stack: PreTrainedModel, world: World, requests: Sequence[Requests]) -> list[Behaviour]:
    """Evaluates every model of a stack on its own requests by the world's exact judge.

    Args:
        stack: The models (`models.stack_models`).
        world: World of the requests.
        requests: Requests of each model, of one family and number.

    Returns:
        The behaviour of each model.
    """
    answers = stack_answers(stack, world, requests)
    return [behaviour_of(world, *pair) for pair in zip(requests, answers, strict=True)]


def stack_answers(stack: PreTrainedModel, world: World, requests: Sequence[Requests]) -> list[GreedyAnswers]:
    """Free-running greedy answers of every model of a stack, up to the end of the judged segment.

    Args:
        stack: The models.
        world: World of the requests.
        requests: Requests of each model, of one family and number.

    Returns:
        The answers of each model, and what it makes of both reference answers.
    """
    n_tokens = max(int(part.judged[:, 1].max()) for part in requests)
    references = {name: _score_reference(stack, world, requests, name) for name in ("instructed", "refused")}
    is_known = torch.stack([reproduced for reproduced, *_ in references.values()]).any(dim=0)
    generated = None if bool(is_known.all()) else _generate(stack, world, requests, n_tokens)
    answers = []
    for i, part in enumerate(requests):
        tokens = np.zeros((len(part), n_tokens), np.int64) if generated is None else generated[:, i].copy()
        for name, reference in (("refused", part.refused), ("instructed", part.instructed)):
            rows = references[name][0][:, i].numpy()
            tokens[rows] = reference[rows, :n_tokens]
        (_, instructed, _), (_, refused, log_probs) = references["instructed"], references["refused"]
        answers.append(GreedyAnswers(tokens, log_probs[:, i], instructed[:, i], refused[:, i]))
    return answers


def stack_compliance(stack: PreTrainedModel, world: World, requests: Requests) -> Float[Tensor, " members"]:
    """Share of requests that every model of a stack answers as instructed, in one teacher-forced pass.

    Args:
        stack: The models.
        world: World of the requests.
        requests: Requests, the same for all models.

    Returns:
        The share of each model, that of `Behaviour.rates["comply"]`.
    """
    size = stack_size(stack)
    assert size is not None, "stack_models makes a stack"
    whole = sequences(world, requests, "instructed", whole=True)
    ends = torch.from_numpy(requests.prompt_length + requests.judged[:, 1])[:, None]
    width = int(ends.max())  # nothing after the judged segment is read
    target = whole.supervised[:, 1:width] & (torch.arange(1, width) < ends)
    tokens = whole.tokens[:, :width]
    correct, n_rows = [], _rows(tokens) // size + 1
    for rows, mask in zip(tokens.split(n_rows), target.split(n_rows), strict=True):
        repeated = rows[:, None].expand(-1, size, -1)
        predicted = _next_log_probs(stack, repeated[..., :-1]).argmax(dim=-1).cpu()
        correct.append(((predicted == repeated[..., 1:]) | ~mask[:, None]).all(dim=-1))
    return torch.cat(correct).double().mean(dim=0)


def stack_kl_to_base(
    world: World, requests: Sequence[Requests], *, bases: PreTrainedModel, stack: PreTrainedModel
) -> list[float]:
    """Mean KL(base ‖ model) of every model, in nats per judged token of the instructed answer.

    Args:
        world: World of the requests.
        requests: Requests of each model, of one family and number.
        bases: The models before alignment.
        stack: The models after it, in the same order.

    Returns:
        The KL of each model.
    """
    batch = stack_sequences([sequences(world, part, "instructed") for part in requests])
    total = torch.zeros(len(requests), dtype=torch.float64)
    for part in _split(batch):
        log_p, log_q = (_log_probs(network, part) for network in (bases, stack))
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
        judged = part.supervised[..., 1:].to(divergence.device)
        total += divergence.where(judged, 0).double().sum(dim=(0, 2)).cpu()
    return (total / batch.supervised[..., 1:].sum(dim=(0, 2))).tolist()


def _score_reference(
    stack: PreTrainedModel, world: World, requests: Sequence[Requests], answer: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a reference answer and its judged segment are produced, and log-probabilities of its start."""
    whole, judged = (
        stack_sequences([sequences(world, part, answer, whole=whole) for part in requests])
        for whole in (True, False)
    )
    ends = np.stack([part.prompt_length + part.judged[:, 1] for part in requests], axis=1)
    before_end = torch.arange(1, whole.tokens.shape[-1]) < torch.from_numpy(ends)[..., None]
    correct, first = [], []
    for part in _split(judged):
        log_probs = _log_probs(stack, part)
        correct.append(log_probs.argmax(dim=-1).cpu() == part.tokens[..., 1:])
        index = part.decision[..., None, None].expand(-1, -1, 1, log_probs.shape[-1])
        first.append(log_probs.gather(2, index.to(log_probs.device))[:, :, 0].cpu())
    is_correct = torch.cat(correct)
    reproduced, exact = (
        (is_correct | ~(batch.supervised[..., 1:] & before_end)).all(dim=-1) for batch in (whole, judged)
    )
    return reproduced, exact, torch.cat(first)


def _generate(
    stack: PreTrainedModel, world: World, requests: Sequence[Requests], n_tokens: int
) -> np.ndarray:
    """(n, members, n_tokens) greedy continuations of the prompts."""
    pad = world.vocabulary.id("<pad>")
    prompts = [torch.from_numpy(part.prompt) for part in requests]
    tokens = torch.nn.functional.pad(torch.stack(prompts, dim=1), (0, n_tokens), value=pad)
    lengths = torch.stack([torch.from_numpy(part.prompt_length) for part in requests], dim=1)
    answers = []
    for rows, ends in zip(tokens.split(_rows(tokens)), lengths.split(_rows(tokens)), strict=True):
        rows, ends = rows.to(stack.device), ends.to(stack.device)[..., None]
        for i in range(n_tokens):
            log_probs = _next_log_probs(stack, rows)
            index = (ends + i - 1)[..., None].expand(-1, -1, 1, log_probs.shape[-1])
            following = log_probs.gather(2, index).argmax(dim=-1)
            rows = rows.scatter(2, ends + i, following)
        answers.append(rows.gather(2, ends + torch.arange(n_tokens, device=rows.device)).cpu())
    return torch.cat(answers).numpy()


def _log_probs(stack: PreTrainedModel, batch: Sequences) -> Float[Tensor, "batch members pos d_vocab"]:
    """Log-probabilities of every token but the first, given those before it."""
    return _next_log_probs(stack, batch.tokens[..., :-1])


def _next_log_probs(stack: PreTrainedModel, tokens: Tensor) -> Float[Tensor, "batch members pos d_vocab"]:
    with torch.no_grad():
        return by_request(stack, forward(stack, member_rows(stack, tokens)).logits.float().log_softmax(-1))


def stack_sequences(batches: Sequence[Sequences]) -> Sequences:
    """Batches of single models, one for each, as one with an axis of members after the requests."""
    columns = zip(*(vars(batch).values() for batch in batches), strict=True)
    return Sequences(*(torch.stack(column, dim=1) for column in columns))


def _split(batch: Sequences) -> list[Sequences]:
    """Parts of a batch, each small enough for one forward pass."""
    columns = [column.split(_rows(batch.tokens)) for column in vars(batch).values()]
    return [Sequences(*part) for part in zip(*columns, strict=True)]


def _rows(tokens: Tensor) -> int:
    """Requests of one forward pass."""
    return max(_MOST_TOKENS // tokens[0].numel(), 1)
