"""Model stitching of a base and a tuned model: probability of an answer where both are cut and combined.

Both networks are cut after every block. The residual stream of one model's lower part is passed on to the
other model's upper part, at all positions. The *movement* is the difference that the tuned lower part makes
to the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import attach, capture, forward, logits_at_last, run_blocks
from makebreak.evaluation import (
    MAX_BATCH_SIZE,
    decision_kl,
    first_tokens,
    is_likeliest,
    likeliest_other,
    log_odds,
    prompt_tokens,
)
from makebreak.models import MAX_BATCH_TOKENS, check_same_shapes, n_layers
from makebreak.prompts import Requests


@dataclass(frozen=True)
class Stitching:
    """Results of `stitch` for n requests at k cuts; probabilities are of the first token of one answer."""

    requests: Requests
    """The requests."""
    answer: str
    """The answer that is scored, `refused` or `instructed`."""
    cuts: tuple[int, ...]
    """Numbers of blocks below each cut: 0 is after the embedding, `n_layers` before the final norm."""
    n_layers: int
    """Number of blocks."""
    base_log_odds: Float[Tensor, " n"]
    """Log-odds of the answer in the base model, nats."""
    tuned_log_odds: Float[Tensor, " n"]
    """Log-odds of the answer in the tuned model, nats."""
    base_is_likeliest: Bool[Tensor, " n"]
    """Whether the base's likeliest token begins the answer."""
    tuned_is_likeliest: Bool[Tensor, " n"]
    """Whether the tuned model's likeliest token begins the answer."""
    base_tokens: Int[Tensor, " n"]
    """The base's likeliest token."""
    tuned_kl: Float[Tensor, " n"]
    """KL(base ‖ tuned) of the next-token distribution, nats."""
    lower: Float[Tensor, "k n"]
    """Log-odds with the tuned model below the cut and the base above."""
    upper: Float[Tensor, "k n"]
    """Log-odds with the base below the cut and the tuned model above."""
    direct: Float[Tensor, "k n"]
    """Log-odds of the base with the movement of the cut added to its final states."""
    random: Float[Tensor, "k n"]
    """Log-odds of the base with a random movement of the same norm at every position."""
    kl: Float[Tensor, "k n"]
    """KL(base ‖ base with the tuned lower part) of the next-token distribution, nats."""
    keeps_answer: Bool[Tensor, "k n"]
    """Whether the base, with the tuned lower part, has the same likeliest token, that of the scored answer
    left out."""
    base_final: Float[Tensor, "n d"]
    """The base's state that the unembedding reads, at the end of the prompt."""
    lower_final: Float[Tensor, "k n d"]
    """The same state with the tuned model below the cut and the base above."""
    movement: Float[Tensor, "k n d"]
    """Tuned minus base state at the cut, at the end of the prompt."""

    @property
    def changes(self) -> Bool[Tensor, " n"]:
        """Whether the tuned model answers so and the base does not."""
        return self.tuned_is_likeliest & ~self.base_is_likeliest


class Decision(NamedTuple):
    """What a model decides at the end of each prompt."""

    log_probs: Float[Tensor, "n d_vocab"]
    """Log-probabilities of the next token, float64."""
    final: Float[Tensor, "n d"]
    """State that the unembedding reads."""


def stitch(
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    requests: Requests,
    answer: str = "refused",
    cuts: Sequence[int] | None = None,
    seed: int,
) -> Stitching:
    """Stitches two models at several cuts and scores the answer's first token.

    Args:
        base: The model before fine-tuning.
        tuned: The model after it.
        requests: Requests whose reference answer differs between base and tuned model.
        answer: The answer to score: `refused`, or `instructed` for a remap control.
        cuts: Numbers of blocks below the cut; all by default.
        seed: Seed of the random movement.

    Returns:
        The results, on the CPU.

    Raises:
        ValueError: If the two models differ in number of blocks, width or vocabulary.
    """
    check_same_shapes(base=base, tuned=tuned)
    depth = n_layers(base)
    cuts = tuple(range(depth + 1) if cuts is None else cuts)
    target = first_tokens(requests, answer)
    random = torch.Generator().manual_seed(seed)
    # the random movement is drawn part by part: parts must not follow the free memory, as other batches do
    size = max(min(MAX_BATCH_SIZE, MAX_BATCH_TOKENS // requests.prompt.shape[1]), 1)
    parts: list[tuple[dict[str, Tensor], list[dict[str, Tensor]]]] = []
    for first in range(0, len(requests), size):
        part, goal = requests[slice(first, first + size)], target[first : first + size]
        base_states, tuned_states = residual_states(base, part), residual_states(tuned, part)
        base_decision = upper_decision(base, part, depth, base_states[depth])
        tuned_decision = upper_decision(tuned, part, depth, tuned_states[depth])
        whole = {
            "base_log_odds": log_odds(base_decision.log_probs, goal),
            "tuned_log_odds": log_odds(tuned_decision.log_probs, goal),
            "base_is_likeliest": is_likeliest(base_decision.log_probs, goal),
            "tuned_is_likeliest": is_likeliest(tuned_decision.log_probs, goal),
            "base_tokens": base_decision.log_probs.argmax(dim=-1),
            "tuned_kl": decision_kl(base_decision.log_probs, tuned_decision.log_probs),
            "base_final": base_decision.final,
        }
        rows, (_, last) = torch.arange(len(part)), prompt_tokens(part)
        base_answers, by_cut = likeliest_other(base_decision.log_probs, goal), []
        for cut in cuts:
            states = base_states[cut]
            movement = tuned_states[cut] - states
            noise = torch.randn(states.shape, generator=random)
            noise *= movement.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
            lower = upper_decision(base, part, cut, tuned_states[cut])
            by_cut.append(
                {
                    "lower": log_odds(lower.log_probs, goal),
                    "upper": log_odds(upper_decision(tuned, part, cut, states).log_probs, goal),
                    "direct": log_odds(
                        upper_decision(base, part, depth, base_states[depth] + movement).log_probs, goal
                    ),
                    "random": log_odds(upper_decision(base, part, cut, states + noise).log_probs, goal),
                    "kl": decision_kl(base_decision.log_probs, lower.log_probs),
                    "keeps_answer": likeliest_other(lower.log_probs, goal) == base_answers,
                    "lower_final": lower.final,
                    "movement": movement[rows, last].float(),
                }
            )
        parts.append((whole, by_cut))
    whole_columns = {name: torch.cat([whole[name] for whole, _ in parts]) for name in parts[0][0]}
    cut_columns = {
        name: torch.cat([torch.stack([row[name] for row in by_cut]) for _, by_cut in parts], dim=1)
        for name in parts[0][1][0]
    }
    return Stitching(requests, answer, cuts, depth, **whole_columns, **cut_columns)


def residual_site(model: PreTrainedModel, cut: int) -> str:
    """Returns the site of the residual stream at a cut, a number of blocks from 0 to `n_layers`."""
    return f"blocks.{cut}.hook_resid_pre" if cut < n_layers(model) else f"blocks.{cut - 1}.hook_resid_post"


def residual_states(model: PreTrainedModel, requests: Requests) -> list[Float[Tensor, "batch pos d_model"]]:
    """Returns the residual stream at every cut, from after the embedding to before the final norm."""
    tokens, _ = prompt_tokens(requests)
    depth = n_layers(model)
    sites = [residual_site(model, cut) for cut in range(depth + 1)]
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    [batch] = capture(model, tokens, sites, everywhere, batch_size=len(tokens))
    return [batch.activations[site].unflatten(0, tokens.shape) for site in sites]


def upper_decision(
    model: PreTrainedModel, requests: Requests, cut: int, states: Float[Tensor, "batch pos d_model"]
) -> Decision:
    """Runs the blocks above a cut on given states.

    Args:
        model: The model whose upper part is run.
        requests: The requests that the states belong to.
        cut: Number of blocks below the cut.
        states: States of the residual stream at the cut.

    Returns:
        The decision at the end of each prompt, on the CPU.
    """
    tokens, last = prompt_tokens(requests)
    final: list[Tensor] = []
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module), "a language model has output embeddings"
    with torch.no_grad(), logits_at_last(model, last), run_blocks(model, cut, states=states):
        handle = attach(head, "input", lambda state: final.append(state[:, 0].cpu()))
        try:
            logits = forward(model, tokens).logits[:, 0]
        finally:
            handle.remove()
    return Decision(logits.double().log_softmax(-1).cpu(), final[0].float())
