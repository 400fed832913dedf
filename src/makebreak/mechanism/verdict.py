"""How fine-tuning makes a model refuse: one mechanism per request, and a verdict on all of them.

A verdict is about requests whose answer flips: the tuned model's likeliest first token refuses and the base's
does not. Where a combination of both models refuses with at least half of what fine-tuning added to the
probability of the refusal, it *refuses*. Cuts are numbered by the blocks below them. The change is *complete*
at the first cut where the tuned upper part, on the base's states, no longer refuses, and *effective* at the
first where the base's upper part, on the tuned states, refuses.

- redundant: the change is effective before it is complete; the tuned lower part and the tuned upper part
  each suffice.
- last block: it is complete after the last block only, or in the unembedding.
- written directly: it is effective where it is complete, and the movement refuses when it is added to the
  base's final states; no block of the base is needed. The same if several tuned blocks add up to the movement
  without reacting to one another.
- route: where it is effective, blocks of the base turn the movement into the refusal, which is not written
  directly there; also if several tuned blocks make the movement.
- silence: the base's upper part ignores the movement at every cut in between, by its effect on the answer;
  tuned blocks turn it into the refusal.
- erase: the base's upper part reacts but does not refuse, and at the first cut in between where it reacts,
  with at least half of its largest KL, its final states no longer say its answer. (At later cuts tuned blocks
  may drop the answer because they refuse.)
- rewrite: the same, and they still do, perhaps in another code.
- unread: erase or rewrite, where the base's own final states do not say its answer to any reader.
- unspecific: a random movement of the same norm refuses as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.mechanism.answer_reader import reader_skill
from makebreak.mechanism.stitching import Stitching, additive_log_odds
from makebreak.stats import wilson_interval


@dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdict."""

    min_flips: int = 10
    """Fewest requests whose answer flips."""
    min_flip_rate: float = 0.05
    """Least share of requests whose answer flips."""
    min_refusal_share: float = 0.5
    """Least share of the refusal's probability gain at which a combination of both models refuses."""
    max_silent_share: float = 0.02
    """Largest KL(base ‖ base under the movement) of a silent movement, as a share of KL(base ‖ tuned)."""
    min_reaction: float = 0.5
    """Least share of the largest KL between the two cuts at which the base reacts to the movement."""
    min_reader_skill: float = 0.2
    """Least skill of a reader of the base's own final states."""
    max_answer_share: float = 0.5
    """Largest share of that skill that is left where the answer is erased."""
    min_agreement: float = 0.8
    """Least share of requests that agree on the mechanism that is named."""


VERDICT_RULES = VerdictRules()
MIN_READ = 50
"""Fewest requests of the same cuts from which the base's answers are read."""
MECHANISMS = (
    "silence",
    "route",
    "rewrite",
    "erase",
    "written directly",
    "last block",
    "redundant",
    "unread",
    "unspecific",
)
"""What a request's refusal can come from."""
_OPEN = {
    "unread": "rewrite or erase, which only readers of the base's answers tell apart",
    "unspecific": "any movement of this size makes the base refuse",
}


class MechanismRow(NamedTuple):
    """One request whose answer flips."""

    request: int
    """Index among the requests."""
    mechanism: str
    """One of `MECHANISMS`."""
    n_layers: int
    """Number of blocks."""
    complete_at: int
    """First cut where tuned blocks, on the base's states, no longer refuse; `n_layers` + 1 for none."""
    effective_at: int
    """First cut where the base's upper part refuses on the tuned states; `n_layers` + 1 for none."""
    kl_share: float | None
    """Largest KL of the base under the movement between the two cuts, as a share of KL(base ‖ tuned); None
    if there is no cut in between."""
    answer_share: float | None
    """Skill of a reader of the answer where the base reacts, as a share of that in the base's own states;
    None where it was not read."""


class MechanismShareRow(NamedTuple):
    """One mechanism among the requests whose answer flips."""

    mechanism: str
    """One of `MECHANISMS`."""
    share: float
    """Share of the requests that flip."""
    low: float
    """Lower end of its 95 % Wilson interval over requests."""
    high: float
    """Upper end."""
    n_flips: int
    """Number of requests that flip, of all mechanisms."""
    n_layers: int
    """Number of blocks."""
    depth: float
    """Median over its requests of the cut at which the change is complete."""


class MechanismVerdict(NamedTuple):
    """The mechanism on which the requests agree, with its reason in words."""

    mechanism: str
    """One of `MECHANISMS`, `mixed` or `undecided`."""
    reason: str
    """The quantities that decided."""
    shares: list[MechanismShareRow]
    """All mechanisms of the requests, the most frequent first."""


def mechanism_rows(
    stitching: Stitching, *, base: PreTrainedModel, tuned: PreTrainedModel, seed: int
) -> list[MechanismRow]:
    """Names the mechanism of every request whose answer flips.

    Args:
        stitching: Result of `stitch` at all cuts, for the same models.
        base: The model before fine-tuning.
        tuned: The model after it.
        seed: Seed of the readers' folds.

    Returns:
        One row per request that flips; none if too few flip.

    Raises:
        ValueError: If a cut is missing.
    """
    depth, rules = stitching.n_layers, VERDICT_RULES
    if stitching.cuts != tuple(range(depth + 1)):
        raise ValueError(f"cuts {stitching.cuts}: expected every cut from 0 to {depth}")
    flips = stitching.changes.nonzero()[:, 0].numpy()
    if len(flips) < max(rules.min_flips, rules.min_flip_rate * len(stitching.changes)):
        return []
    complete_at = _first_cut(~_refuses(stitching, stitching.upper, flips))
    effective_at = _first_cut(_refuses(stitching, stitching.lower, flips))
    at_effect = np.minimum(effective_at, depth), np.arange(len(flips))
    is_direct = _refuses(stitching, stitching.direct, flips)[at_effect]
    is_unspecific = _refuses(stitching, stitching.random, flips)[at_effect]
    cuts = np.arange(depth + 1)[:, None]
    is_between = (complete_at <= cuts) & (cuts < effective_at)
    kl_shares = (stitching.kl / stitching.tuned_kl).numpy()[:, flips]
    kl_between = np.where(is_between, kl_shares, -np.inf)
    kl_share = kl_between.max(axis=0)
    reaction_at = (kl_between >= rules.min_reaction * kl_share).argmax(axis=0)
    is_early = effective_at < depth  # blocks of the base are left that can act on the movement
    is_sum = np.zeros(len(flips), dtype=bool)
    for start, stop in {*zip(complete_at.tolist(), effective_at.tolist(), strict=True)}:
        if start < stop < depth:
            rows = np.flatnonzero((complete_at == start) & (effective_at == stop) & is_direct)
            if not len(rows):
                continue
            value = additive_log_odds(stitching, flips[rows], start, stop, base=base, tuned=tuned)
            is_sum[rows] = _reaches(value.numpy(), *_ends(stitching, flips[rows]))
    is_routed = is_early & ((complete_at == effective_at) | is_sum | ~is_direct)
    is_silent = kl_share <= rules.max_silent_share
    is_open = is_between.any(axis=0) & ~is_routed & ~is_silent & (complete_at < depth)
    cuts_to_read = np.where(is_open, [reaction_at, effective_at], -1)
    answer_share = _answer_shares(stitching, flips, cuts_to_read, seed)
    is_lost = answer_share <= rules.max_answer_share
    conditions = {
        "redundant": effective_at < complete_at,
        "last block": complete_at >= depth,
        "unspecific": is_routed & is_unspecific,
        "written directly": is_routed & is_direct,
        "route": is_routed,
        "silence": is_silent,
        "unread": np.isnan(answer_share),
        "erase": is_lost,
        "rewrite": ~is_lost,
    }
    names = np.select(list(conditions.values()), list(conditions), "unread").tolist()
    return [
        MechanismRow(
            request=int(flips[i]),
            mechanism=names[i],
            n_layers=depth,
            complete_at=int(complete_at[i]),
            effective_at=int(effective_at[i]),
            kl_share=float(kl_share[i]) if np.isfinite(kl_share[i]) else None,
            answer_share=None if np.isnan(answer_share[i]) else float(answer_share[i]),
        )
        for i in range(len(flips))
    ]


def mechanism_shares(rows: Sequence[MechanismRow]) -> list[MechanismShareRow]:
    """Counts the mechanisms of requests.

    Args:
        rows: Rows of `mechanism_rows`.

    Returns:
        One row per mechanism that occurs, the most frequent first.
    """
    shares = []
    for mechanism, n in Counter(row.mechanism for row in rows).most_common():
        low, high = wilson_interval(n, len(rows))
        depth = float(np.median([row.complete_at for row in rows if row.mechanism == mechanism]))
        shares.append(
            MechanismShareRow(mechanism, n / len(rows), low, high, len(rows), rows[0].n_layers, depth)
        )
    return shares


def mechanism_verdict(rows: Sequence[MechanismRow], n_requests: int) -> MechanismVerdict:
    """Names the mechanism on which most requests agree.

    Args:
        rows: Rows of `mechanism_rows`.
        n_requests: Number of requests, also of those whose answer does not flip.

    Returns:
        The verdict; `undecided` without rows, and `mixed` if no mechanism has 80 % of the requests.
    """
    rules, shares = VERDICT_RULES, mechanism_shares(rows)
    if not shares:
        reason = f"refusal does not change: fewer than {rules.min_flips} of {n_requests} requests, or fewer "
        reason += f"than {rules.min_flip_rate:.0%}, are refused by the tuned model and not by the base"
        return MechanismVerdict("undecided", reason, shares)
    first = shares[0]
    listing = ", ".join(f"{row.mechanism} {row.share:.2f}" for row in shares)
    reason = f"of {n_requests} requests {len(rows)} flip: {listing}"
    if first.share < rules.min_agreement:
        return MechanismVerdict("mixed", reason, shares)
    if first.mechanism in _OPEN:
        return MechanismVerdict("undecided", f"{reason}: {_OPEN[first.mechanism]}", shares)
    where = f"after block {first.depth:g} of {first.n_layers}"
    if first.depth > first.n_layers:
        where = "in the unembedding"
    reason += f" [{first.low:.2f}, {first.high:.2f}]; complete {where}"
    return MechanismVerdict(first.mechanism, reason, shares)


def _refuses(stitching: Stitching, values: Tensor, flips: np.ndarray) -> np.ndarray:
    """Whether each combination refuses, from its log-odds, (cuts, flips)."""
    return _reaches(values.numpy()[:, flips], *_ends(stitching, flips))


def _ends(stitching: Stitching, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of base and tuned model."""
    return stitching.base_log_odds.numpy()[rows], stitching.tuned_log_odds.numpy()[rows]


def _reaches(values: np.ndarray, base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Whether log-odds give the least share of the gain in probability."""
    p, p_base, p_tuned = expit(values), expit(base), expit(tuned)
    return p - p_base >= VERDICT_RULES.min_refusal_share * (p_tuned - p_base)


def _first_cut(holds: np.ndarray) -> np.ndarray:
    """First cut, along the first axis, where something holds; the number of cuts if there is none."""
    return np.where(holds.any(axis=0), holds.argmax(axis=0), len(holds))


def _answer_shares(stitching: Stitching, flips: np.ndarray, cuts: np.ndarray, seed: int) -> np.ndarray:
    """Share of the reader's skill that is left where the base reacts to the movement; nan if not read.

    Requests are read in groups of the same two cuts, since a mixture of mechanisms differs in them. Readers
    need many requests: those of a group of fewer than `MIN_READ` join the nearest group that has them, or the
    largest one.

    Args:
        stitching: The stitching.
        flips: Indices of the requests that flip.
        cuts: Cut at which each of them is read, and at which it is effective, (2, flips); -1 for no reading.
        seed: Seed of the readers.

    Returns:
        One share per request.
    """
    shares, is_open = np.full(len(flips), np.nan), cuts[0] >= 0
    groups, counts = np.unique(cuts[:, is_open], axis=1, return_counts=True)
    if not len(counts):
        return shares
    large = groups[:, counts >= MIN_READ] if counts.max() >= MIN_READ else groups[:, [counts.argmax()]]
    nearest = np.abs(cuts[:, :, None] - large[:, None, :]).sum(axis=0).argmin(axis=1)
    for i, cut in enumerate(large[0]):
        is_read = is_open & (nearest == i)
        rows = flips[is_read]
        skill = reader_skill(
            stitching.base_final.numpy()[rows],
            stitching.lower_final[cut].numpy()[rows],
            stitching.base_tokens.numpy()[rows],
            seed,
        )
        if skill is not None and skill.base >= VERDICT_RULES.min_reader_skill:
            shares[is_read] = skill.hybrid / skill.base
    return shares
