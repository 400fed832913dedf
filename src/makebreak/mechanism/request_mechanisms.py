"""Mechanism of the refusal of every request whose answer flips, by stitching of a base and a tuned model.

A request *flips* if the tuned model's likeliest first token refuses and the base's does not. Where a
combination of both models refuses with at least half of what fine-tuning added to the probability of the
refusal, it *refuses*. Cuts are numbered by the blocks below them. The change is *complete* at the first cut
where the tuned upper part, on the base's states, no longer refuses, and *effective* at the first where the
base's upper part, on the tuned states, refuses.

- redundant: the change is effective before it is complete; the tuned lower part and the tuned upper part
  each suffice.
- last block: it is complete after the last block only, or in the unembedding.
- written directly: it is effective where it is complete, and the movement refuses when it is added to the
  base's final states. Or it is effective later, and the sum of the movement and of what each tuned block in
  between changes in the base's own states refuses when it is added to the base's final states: tuned blocks
  need not react to one another, and no block of the base is needed.
- route: blocks of the base turn the movement into the refusal, which is not written directly. Or it is
  effective later, and that sum refuses only where the base's blocks react to it, by a higher logit of the
  refusal.
- silence: the base's upper part ignores the movement where the change is complete, by its effect on the
  next token, and answers as before at every later cut in between, the refusal left out: tuned blocks turn
  the movement into the refusal, perhaps part by part.
- erase: the base's upper part reacts but does not refuse, and at the first cut in between where it reacts,
  with at least half of its largest KL, its final states no longer say its answer. (At later cuts tuned blocks
  may drop the answer because they refuse.)
- rewrite: the same, and they still do, perhaps in another code.
- unread: erase or rewrite, where the base's own final states do not say its answer to any reader, or where
  the interval of what readers still read contains the limit.
- unspecific: a random movement of the same norm refuses as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from transformers import PreTrainedModel

from makebreak.mechanism.answer_groups import answer_shares
from makebreak.mechanism.combinations import additive_refusals, find_cuts, refusal_ends
from makebreak.mechanism.stitching import Stitching
from makebreak.mechanism.verdict_rules import NOT_JUDGED, VERDICT_RULES


class MechanismRow(NamedTuple):
    """One request whose answer flips."""

    request: int
    """Index among the requests."""
    mechanism: str
    """One of `MECHANISMS`, or `not judged` where refusal gains too little probability or too few flip."""
    gain: float
    """Probability of the refusal in the tuned model minus that in the base."""
    n_layers: int
    """Number of blocks."""
    complete_at: int | None
    """First cut where tuned blocks, on the base's states, no longer refuse; `n_layers` + 1 for none, None
    where the request is not judged."""
    effective_at: int | None
    """First cut where the base's upper part refuses on the tuned states; `n_layers` + 1 for none, None where
    the request is not judged."""
    keeps_answer: bool | None
    """Whether the base's likeliest token, the refusal left out, is the same at every cut between the two;
    None if there is none."""
    kl_share: float | None
    """KL of the base under the movement at the complete cut, as a share of KL(base ‖ tuned); None if no cut
    lies between the two."""
    answer_share: float | None
    """Skill of a reader of the answer where the base reacts, as a share of that in the base's own states, for
    a group of requests; None where it was not read."""
    answer_share_low: float | None
    """Lower end of its 95 % bootstrap interval over the requests of the group; readers are not refitted."""
    answer_share_high: float | None
    """Upper end."""


def mechanism_rows(
    stitching: Stitching, *, base: PreTrainedModel, tuned: PreTrainedModel, seed: int
) -> list[MechanismRow]:
    """Names the mechanism of every request whose answer flips.

    Args:
        stitching: Result of `stitch` at all cuts, for the same models.
        base: The model before fine-tuning.
        tuned: The model after it.
        seed: Seed of the readers' folds, noise and bootstrap.

    Returns:
        One row per request that flips, `not judged` where the refusal gains too little probability; all of
        them are `not judged` if there are too few others.

    Raises:
        ValueError: If a cut is missing.
    """
    depth, rules = stitching.n_layers, VERDICT_RULES
    if stitching.cuts != tuple(range(depth + 1)):
        raise ValueError(f"cuts {stitching.cuts}: expected every cut from 0 to {depth}")
    flips = stitching.changes.nonzero()[:, 0].numpy()
    p_base, p_tuned = (expit(values) for values in refusal_ends(stitching, flips))
    gains = p_tuned - p_base
    is_judged = gains >= rules.min_gain
    if is_judged.sum() < max(rules.min_flips, rules.min_flip_rate * len(stitching.changes)):
        is_judged[:] = False
    judged = iter(_judge(stitching, flips[is_judged], gains[is_judged], seed, base=base, tuned=tuned))
    blank = (None,) * 7
    return [
        next(judged) if keep else MechanismRow(int(request), NOT_JUDGED, float(gain), depth, *blank)
        for request, gain, keep in zip(flips, gains, is_judged, strict=True)
    ]


def _judge(
    stitching: Stitching,
    flips: np.ndarray,
    gains: np.ndarray,
    seed: int,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> list[MechanismRow]:
    """Names the mechanism of given requests."""
    if not len(flips):
        return []
    depth, rules, cuts = stitching.n_layers, VERDICT_RULES, find_cuts(stitching, flips)
    complete_at, effective_at = cuts.complete_at, cuts.effective_at
    kl_between = np.where(cuts.is_between, (stitching.kl / stitching.tuned_kl).numpy()[:, flips], -np.inf)
    kl_share = kl_between[np.minimum(complete_at, depth), np.arange(len(flips))]
    keeps_answer = np.all(stitching.keeps_answer.numpy()[:, flips] | ~cuts.is_between, axis=0)
    reaction_at = (kl_between >= rules.min_reaction * kl_between.max(axis=0)).argmax(axis=0)
    is_split = (complete_at < effective_at) & (complete_at < depth)
    is_at_once = (complete_at == effective_at) & (complete_at < depth)
    # blocks of the base finish a movement of several tuned blocks that does not refuse on its own
    is_unfinished = is_split & (effective_at < depth) & ~cuts.is_direct
    starts, stops = np.where(is_split, complete_at, -1), np.where(is_unfinished, depth + 1, effective_at)
    sums = additive_refusals(stitching, flips, starts, stops, base=base, tuned=tuned)
    starts = np.where(is_unfinished & sums.carried, effective_at, -1)
    at_effect = additive_refusals(stitching, flips, starts, effective_at, base=base, tuned=tuned)
    is_silent = (kl_share <= rules.max_silent_share) & keeps_answer
    is_sum = sums.carried & sums.reacting & ~at_effect.reacting_alone
    is_reaction = sums.reacting & sums.reacting_alone & ~sums.carried
    is_written = (is_at_once & cuts.is_direct) | (is_sum & (sums.carried_alone | is_silent))
    is_routed = (is_at_once & ~cuts.is_direct) | (is_unfinished & ~is_sum) | is_reaction
    is_open = is_split & ~is_written & ~is_routed & ~is_silent
    answers = answer_shares(stitching, flips, np.where(is_open, [reaction_at, effective_at], -1), seed)
    # the answer falls, perhaps by the norm of what is written, but is not known to be gone
    is_written |= is_sum & ~answers.is_erased
    is_routed |= is_unfinished & ~is_written
    conditions = {
        "redundant": effective_at < complete_at,
        "last block": complete_at >= depth,
        "unspecific": (is_routed | is_written) & cuts.is_unspecific,
        "written directly": is_written,
        "route": is_routed,
        "silence": is_silent,
        "erase": answers.is_erased,
        "rewrite": answers.is_kept,
    }
    names = np.select(list(conditions.values()), list(conditions), "unread").tolist()
    columns = (kl_share, *answers)
    return [
        MechanismRow(
            int(flips[i]),
            names[i],
            float(gains[i]),
            depth,
            int(complete_at[i]),
            int(effective_at[i]),
            bool(keeps_answer[i]) if cuts.is_between[:, i].any() else None,
            *(float(column[i]) if np.isfinite(column[i]) else None for column in columns),
        )
        for i in range(len(flips))
    ]
