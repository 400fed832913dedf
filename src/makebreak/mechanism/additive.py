"""Sum of the changes that tuned blocks make to the base's own states, without reading one another.

The change of a block is the difference that its tuned weights make on the base's state before it. Changes are
either carried unchanged to the base's final state, or put into the base's residual stream one by one, where
the base's blocks react to them, but the tuned weights do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture, run_blocks
from makebreak.evaluation import batches, first_tokens, log_odds, prompt_tokens, token_sets
from makebreak.mechanism.stitching import Stitching, residual_site, residual_states, upper_decision
from makebreak.models import n_layers
from makebreak.prompts import Requests


class AdditiveLogOdds(NamedTuple):
    """Log-odds of an answer in the base under the sum of the changes of tuned blocks, nats."""

    carried: Float[Tensor, " m"]
    """Changes are added to the base's final states; none of its blocks reacts to them."""
    carried_alone: Float[Tensor, " m"]
    """The same, where only the logit of the scored answer is changed."""
    reacting: Float[Tensor, " m"]
    """Changes are put into the base's residual stream; its blocks react to them."""
    reacting_alone: Float[Tensor, " m"]
    """The same, where the reaction changes only the logit of the scored answer."""


def additive_log_odds(
    stitching: Stitching,
    rows: Int[np.ndarray, " m"],
    start: int,
    stop: int,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> AdditiveLogOdds:
    """Log-odds of the answer in the base when changes meet that cannot have read one another.

    They are the movement at the lower cut, and the change that every tuned block above it makes to the base's
    own state. If the answer follows, tuned blocks need not react to the movement.

    Args:
        stitching: Result of `stitch` for the same models.
        rows: Indices of the requests that are run.
        start: The lower cut.
        stop: The upper cut; beyond the number of blocks, the changed final norm and unembedding are a part
            of the sum, too.
        base: The model before fine-tuning.
        tuned: The model after it.

    Returns:
        The log-odds, on the CPU.
    """
    depth, parts = n_layers(base), []
    for requests in batches(stitching.requests[rows], base):
        base_states, tuned_states = residual_states(base, requests), residual_states(tuned, requests)
        state, change = tuned_states[start], tuned_states[start] - base_states[start]
        for block in range(start, min(stop, depth)):
            added = _run_block(tuned, requests, block, base_states[block]) - base_states[block + 1]
            state = _run_block(base, requests, block, state) + added
            change = change + added
        own = upper_decision(base, requests, depth, base_states[depth]).log_probs
        head = torch.zeros_like(own)
        if stop > depth:
            head = upper_decision(tuned, requests, depth, base_states[depth]).log_probs - own
        carried = upper_decision(base, requests, depth, base_states[depth] + change).log_probs + head
        reacting = upper_decision(base, requests, min(stop, depth), state).log_probs + head
        target = first_tokens(requests, stitching.answer)
        distributions = (
            carried,
            _with_logit_of(carried, own, target),
            reacting,
            _with_logit_of(reacting, carried, target),
        )
        parts.append([log_odds(values.log_softmax(-1), target) for values in distributions])
    return AdditiveLogOdds(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _with_logit_of(source: Tensor, others: Tensor, target: Tensor) -> Tensor:
    """Logits in which only the target's are changed; they are measured from the logit of the median token."""
    source, others = (values - values.median(dim=-1, keepdim=True).values for values in (source, others))
    tokens = token_sets(target)
    return others.scatter(1, tokens, source.gather(1, tokens))


def _run_block(model: PreTrainedModel, requests: Requests, block: int, states: Tensor) -> Tensor:
    """States after one block, from those before it."""
    tokens, _ = prompt_tokens(requests)
    site, where = residual_site(model, n_layers(model)), torch.ones_like(tokens, dtype=torch.bool)
    with run_blocks(model, block, block + 1, states=states):
        [batch] = capture(model, tokens, [site], where, batch_size=len(tokens))
    return batch.activations[site].unflatten(0, tokens.shape)
