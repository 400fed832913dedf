"""Model stitching of a base and an aligned model, and four hypotheses of how the aligned model refuses.

Both networks are cut after every block and combined: the residual stream of one model's lower part is passed
on to the other model's upper part. The *movement* is the difference that the aligned lower part makes to the
states.

- silence: the movement changes nothing in the base's upper part.
- route: the movement makes the base's upper part refuse; it had a path to the refusal, and the lower part
  learned to send requests there.
- rewrite: neither; only the aligned upper part turns the movement into a refusal.
- erase: as rewrite, and the information that the answer needs is no longer in the states.

The rules of `VERDICT_RULES` are uncalibrated. On 124 planted networks they named 80 correctly by these
definitions and 58 by the mechanism that was built in. Shares are in log-odds, where a base that is merely
confused gains too: shares between .2 and .7 do not identify a route, and the Fisher null fraction does not
measure silence (docs/errata.md, T1 to T3). Rely on the rows rather than on the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture, forward, logits_at_last, run_blocks
from makebreak.evaluation import MAX_BATCH_SIZE, decision_kl, first_tokens, log_odds, prompt_tokens
from makebreak.geometry import subspace_share
from makebreak.mechanism.fisher import LayerFisher, layer_fisher
from makebreak.models import MAX_BATCH_TOKENS, n_layers
from makebreak.prompts import Requests, TextRequests
from makebreak.revisions import cache_revision

PROBE_NOISE = 0.5
"""Standard deviation of the noise that answer probes get, in units of the spread of the base's states."""


@dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdict at the cut after half of the blocks."""

    min_margin_gain: float = 1.0
    """Least increase of the refusal margin by alignment, nats."""
    min_lower_needed: float = 0.5
    """Least share of that increase that must be lost where the lower part is the base's."""
    min_route_share: float = 0.5
    """Least share that the base's upper part must give for a route; a random movement must give less."""
    max_silent_share: float = 0.1
    """Largest absolute share that the base's upper part may give for silence."""
    min_null_fraction: float = 0.9
    """Least Fisher null fraction of the movement for silence."""
    min_answer_loss: float = 0.5
    """Least share of the base's decodable answers that must be lost for erasure."""
    min_answer_skill: float = 0.2
    """Least skill of the base's answer probe for that share to be defined."""


VERDICT_RULES = VerdictRules()


class MechanismVerdict(NamedTuple):
    """Hypothesis that the rules name for one pair of networks."""

    mechanism: str
    """`silence`, `route`, `rewrite`, `erase` or `undecided`."""
    reason: str
    """The quantity that decided, in words."""


class StitchingRow(NamedTuple):
    """Stitching at one cut; margins are mean log-odds of the answer's first token, in nats."""

    layer: int
    """Number of blocks below the cut: 0 is after the embedding, `n_layers` before the unembedding."""
    n_layers: int
    """Number of blocks."""
    base_margin: float
    """Margin of the whole base model."""
    aligned_margin: float
    """Margin of the whole aligned model."""
    kl: float
    """KL(base ‖ base with the aligned lower part) of the next-token distribution, nats."""
    aligned_lower: float
    """Margin with the aligned model below the cut and the base above."""
    aligned_lower_share: float | None
    """`aligned_lower` as a share of aligned - base; None where these are equal."""
    aligned_upper: float
    """Margin with the base below the cut and the aligned model above."""
    aligned_upper_share: float | None
    """`aligned_upper` as a share of aligned - base; None where these are equal."""
    random_margin: float
    """Margin of the base with a random movement of the same norm at every position."""
    random_share: float | None
    """`random_margin` as a share of aligned - base; None where these are equal."""
    fisher_null_fraction: float | None
    """Share of the last position's movement in the null space of the base's Fisher matrix; None at the last
    cut."""
    fisher_null_chance: float | None
    """The same share for a random movement: the null space's dimension over d_model."""
    fisher_gain: float | None
    """δᵀFδ of the movement in units of a random direction's; None at the last cut and without a movement."""
    base_answer_skill: float | None
    """Skill of a linear probe of the instructed answer's first token in the base's states; None for text."""
    aligned_answer_skill: float | None
    """The same in the aligned model's states: 0 is the accuracy of a probe of shuffled answers, 1 is
    perfect."""


class _CutRecord(NamedTuple):
    """What one batch of requests gives at one cut."""

    aligned_lower: Tensor
    aligned_upper: Tensor
    random: Tensor
    kl: Tensor
    base_state: Tensor
    aligned_state: Tensor


@cache_revision(2)
def stitching_rows(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Requests,
    *,
    answer: str = "refused",
    cuts: Sequence[int] | None = None,
    seed: int,
) -> list[StitchingRow]:
    """Stitches two models at several cuts and scores the answer's first token.

    Args:
        model: The aligned model.
        base: The model that it was trained from.
        requests: Requests whose reference answer differs between base and aligned model.
        answer: The answer to score: `refused`, or `instructed` for a remap control.
        cuts: Numbers of blocks below the cut; all by default.
        seed: Seed of the random movement, of the Fisher matrices' labels and of the probes.

    Returns:
        One row per cut.
    """
    depth = n_layers(base)
    cuts = range(depth + 1) if cuts is None else cuts
    target = first_tokens(requests, answer)
    random = torch.Generator().manual_seed(seed)
    records: dict[int, list[_CutRecord]] = {cut: [] for cut in cuts}
    base_margins: list[Tensor] = []
    aligned_margins: list[Tensor] = []
    start = 0
    # the random movement is drawn part by part: parts must not follow the free memory, as other batches do
    size = max(min(MAX_BATCH_SIZE, MAX_BATCH_TOKENS // requests.prompt.shape[1]), 1)
    for part in (requests[slice(first, first + size)] for first in range(0, len(requests), size)):
        goal = target[start : start + len(part)]
        start += len(part)
        base_states, aligned_states = _states(base, part), _states(model, part)
        base_log_p = _next_token_log_probs(base, part, depth, base_states[depth])
        base_margins.append(log_odds(base_log_p, goal))
        aligned_margins.append(
            log_odds(_next_token_log_probs(model, part, depth, aligned_states[depth]), goal)
        )
        for cut in cuts:
            states = (base_states[cut], aligned_states[cut])
            records[cut].append(_stitch(model, base, part, cut, states, (goal, base_log_p, random)))
    base_margin = float(torch.cat(base_margins).mean())
    aligned_margin = float(torch.cat(aligned_margins).mean())
    fishers = layer_fisher(base, requests, seed=seed)
    rows = []
    for cut in cuts:
        columns = [torch.cat(column) for column in zip(*records[cut], strict=True)]
        lower, upper, noise, kl = (float(column.mean()) for column in columns[:4])
        base_state, aligned_state = columns[4:]
        fisher = _fisher_columns(fishers[cut] if cut < depth else None, aligned_state - base_state)
        skills = _answer_skills(base_state, aligned_state, requests, seed)
        rows.append(
            StitchingRow(
                layer=cut,
                n_layers=depth,
                base_margin=base_margin,
                aligned_margin=aligned_margin,
                kl=kl,
                aligned_lower=lower,
                aligned_lower_share=_share(lower, base_margin, aligned_margin),
                aligned_upper=upper,
                aligned_upper_share=_share(upper, base_margin, aligned_margin),
                random_margin=noise,
                random_share=_share(noise, base_margin, aligned_margin),
                fisher_null_fraction=fisher[0],
                fisher_null_chance=fisher[1],
                fisher_gain=fisher[2],
                base_answer_skill=skills[0],
                aligned_answer_skill=skills[1],
            )
        )
    return rows


def _stitch(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Requests,
    cut: int,
    states: tuple[Tensor, Tensor],
    scoring: tuple[Tensor, Tensor, torch.Generator],
) -> _CutRecord:
    """Margins of both combinations and of a random movement at one cut.

    `states` are the base's and the aligned model's at the cut; `scoring` is the target token, the base's log
    probabilities and the generator of the random movement.
    """
    base_states, aligned_states = states
    goal, base_log_p, random = scoring
    _, last = prompt_tokens(requests)
    rows = torch.arange(len(requests))
    noise = torch.randn(base_states.shape, generator=random)
    size = (aligned_states - base_states).norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    lower_log_p = _next_token_log_probs(base, requests, cut, aligned_states)
    upper_log_p = _next_token_log_probs(model, requests, cut, base_states)
    random_log_p = _next_token_log_probs(base, requests, cut, base_states + size * noise)
    return _CutRecord(
        log_odds(lower_log_p, goal),
        log_odds(upper_log_p, goal),
        log_odds(random_log_p, goal),
        decision_kl(base_log_p, lower_log_p),
        base_states[rows, last],
        aligned_states[rows, last],
    )


def _share(value: float, base: float, aligned: float) -> float | None:
    return (value - base) / (aligned - base) if aligned != base else None


def _site(model: PreTrainedModel, cut: int) -> str:
    depth = n_layers(model)
    return f"blocks.{cut}.hook_resid_pre" if cut < depth else f"blocks.{depth - 1}.hook_resid_post"


def _states(model: PreTrainedModel, requests: Requests) -> list[Tensor]:
    """The residual stream at every cut, (batch, pos, d_model)."""
    tokens, _ = prompt_tokens(requests)
    sites = [_site(model, cut) for cut in range(n_layers(model) + 1)]
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    [batch] = capture(model, tokens, sites, everywhere, batch_size=len(tokens))
    return [batch.activations[site].unflatten(0, tokens.shape) for site in sites]


def _next_token_log_probs(model: PreTrainedModel, requests: Requests, cut: int, states: Tensor) -> Tensor:
    """Log p after the prompt, (batch, d_vocab), float64, from the states at a cut."""
    tokens, last = prompt_tokens(requests)
    with torch.no_grad(), logits_at_last(model, last, narrow=True), run_blocks(model, cut, states=states):
        logits = forward(model, tokens).logits[:, 0]
    return logits.double().log_softmax(-1).cpu()


def _fisher_columns(
    fisher: LayerFisher | None, movement: Tensor
) -> tuple[float | None, float | None, float | None]:
    """Null fraction, its chance and the gain; None without a matrix or a movement."""
    if fisher is None or not movement.any():
        return None, None, None
    null = fisher.null_space()
    nonzero = movement[movement.any(dim=1)]
    shares = subspace_share(nonzero, null)
    return None if shares is None else float(shares.mean()), null.chance, fisher.gain(nonzero)


def _answer_skills(
    base_states: Tensor, aligned_states: Tensor, requests: Requests, seed: int
) -> tuple[float | None, float | None]:
    """Skills of probes fitted on every second request and scored on the others; None for text.

    States get noise of half the base's spread: without it a network keeps a trace of everything.
    """
    if isinstance(requests, TextRequests):
        return None, None
    token = first_tokens(requests, "instructed").numpy()
    random = np.random.default_rng(seed)
    shuffled = random.permutation(token)
    spread = float((base_states - base_states.mean(dim=0)).square().mean().sqrt())
    noise = PROBE_NOISE * spread * random.standard_normal(base_states.shape)
    base_skill, aligned_skill = (
        _probe_skill(states.numpy() + noise, token, shuffled) for states in (base_states, aligned_states)
    )
    return base_skill, aligned_skill


def _probe_skill(states: np.ndarray, token: np.ndarray, shuffled_token: np.ndarray) -> float:
    """Accuracy of a linear probe, scaled so that 0 is that of a probe of shuffled labels and 1 is perfect."""
    probe = make_pipeline(StandardScaler(), Ridge())  # one fit of both probes, a column for each token
    tokens = np.unique(token[::2]), np.unique(shuffled_token[::2])
    labels = [
        np.where(label[::2, None] == known, 1.0, -1.0)
        for label, known in zip((token, shuffled_token), tokens, strict=True)
    ]
    scores = probe.fit(states[::2], np.hstack(labels)).predict(states[1::2])
    accuracy = []
    for label, known, score in zip(
        (token, shuffled_token), tokens, np.hsplit(scores, [len(tokens[0])]), strict=True
    ):
        accuracy.append(float((known[score.argmax(axis=1)] == label[1::2]).mean()))
    return max(accuracy[0] - accuracy[1], 0.0) / max(1 - accuracy[1], 1e-9)


def mechanism_verdict(rows: Sequence[StitchingRow], rules: VerdictRules = VERDICT_RULES) -> MechanismVerdict:
    """Applies the rules to the cut after half of the blocks.

    Args:
        rows: Rows of `stitching_rows`, the middle cut among them.
        rules: Thresholds; they are uncalibrated (see the module's documentation).

    Returns:
        The hypothesis that the rules name, or `undecided`, with the reason.

    Raises:
        ValueError: If the rows lack the middle cut.
    """
    row = next((row for row in rows if row.layer == row.n_layers // 2), None)
    if row is None:
        raise ValueError(f"cuts {[row.layer for row in rows]}: expected the cut after half of the blocks")
    gain = row.aligned_margin - row.base_margin
    lower, upper, random = row.aligned_lower_share, row.aligned_upper_share, row.random_share
    if gain < rules.min_margin_gain or lower is None or upper is None or random is None:
        return MechanismVerdict("undecided", f"alignment raised the margin by {gain:.2f} nats only")
    if 1 - upper < rules.min_lower_needed:
        lost = f"without the lower half only {1 - upper:.2f} of the margin is lost"
        return MechanismVerdict("undecided", lost)
    if lower >= rules.min_route_share:
        if random >= rules.min_route_share:
            return MechanismVerdict("undecided", f"any movement as large gives {random:.2f} of the margin")
        return MechanismVerdict("route", f"the base's upper half gives {lower:.2f} of the margin")
    null_fraction = row.fisher_null_fraction or 0.0
    if abs(lower) <= rules.max_silent_share and null_fraction >= rules.min_null_fraction:
        reason = f"{null_fraction:.2f} of the movement lies in the Fisher null space, "
        return MechanismVerdict("silence", reason + f"and it gives {lower:.2f} of the margin")
    if _is_erased(row, rules):
        reason = f"the answer is decodable with skill {row.aligned_answer_skill:.2f}"
        return MechanismVerdict("erase", f"{reason} instead of {row.base_answer_skill:.2f}")
    reason = f"the base's upper half gives {lower:.2f} of the margin, the aligned upper half all of it"
    return MechanismVerdict("rewrite", reason)


def _is_erased(row: StitchingRow, rules: VerdictRules) -> bool:
    """Whether the answer could be decoded from the base's states and no longer can."""
    before, after = row.base_answer_skill, row.aligned_answer_skill
    if before is None or after is None or before < rules.min_answer_skill:
        return False
    return after <= (1 - rules.min_answer_loss) * before
