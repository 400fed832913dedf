"""The verdict on how fine-tuning makes a model refuse, from the mechanisms of single requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from makebreak.mechanism.request_mechanisms import MechanismRow
from makebreak.mechanism.verdict_rules import NOT_JUDGED, OPEN_MECHANISMS, VERDICT_RULES
from makebreak.stats import wilson_interval


class MechanismShareRow(NamedTuple):
    """One mechanism among the requests that are judged."""

    mechanism: str
    """One of `MECHANISMS`."""
    share: float
    """Share of the requests that are judged."""
    low: float
    """Lower end of its 95 % Wilson interval over requests; no uncertainty of a reading that decides for a
    whole group, see `n_groups`."""
    high: float
    """Upper end."""
    n_flips: int
    """Number of requests that flip and are judged, of all mechanisms."""
    n_layers: int
    """Number of blocks."""
    depth: float
    """Median over its requests of the cut at which the change is complete."""
    n_groups: int | None
    """Number of groups of requests for which readers decided together; None where every request was judged
    on its own."""


class MechanismVerdict(NamedTuple):
    """The mechanism on which the requests agree, with its reason in words."""

    mechanism: str
    """One of `MECHANISMS`, `mixed` or `undecided`."""
    reason: str
    """The quantities that decided."""
    shares: list[MechanismShareRow]
    """All mechanisms of the requests, the most frequent first."""


def mechanism_shares(rows: Sequence[MechanismRow]) -> list[MechanismShareRow]:
    """Counts the mechanisms of the requests that are judged.

    Args:
        rows: Rows of `mechanism_rows`.

    Returns:
        One row per mechanism that occurs, the most frequent first.
    """
    judged = [row for row in rows if row.mechanism != NOT_JUDGED]
    shares = []
    for mechanism, n in Counter(row.mechanism for row in judged).most_common():
        of_mechanism = [row for row in judged if row.mechanism == mechanism]
        low, high = wilson_interval(n, len(judged))
        depth = float(np.median([row.complete_at for row in of_mechanism if row.complete_at is not None]))
        n_groups = len(_readings(of_mechanism)) or None
        shares.append(
            MechanismShareRow(
                mechanism, n / len(judged), low, high, len(judged), judged[0].n_layers, depth, n_groups
            )
        )
    return shares


def mechanism_verdict(rows: Sequence[MechanismRow], n_requests: int) -> MechanismVerdict:
    """Names the mechanism on which most requests agree.

    Args:
        rows: Rows of `mechanism_rows`.
        n_requests: Number of requests, also of those whose answer does not flip.

    Returns:
        The verdict: a mechanism if 80 % of the judged requests have it; `undecided` if none are judged, or if
        the most frequent mechanism could have 80 % with the requests whose mechanism is open; else `mixed`.
    """
    rules, shares = VERDICT_RULES, mechanism_shares(rows)
    if not shares:
        return MechanismVerdict("undecided", _too_few(rows, n_requests), shares)
    judged = [row for row in rows if row.mechanism != NOT_JUDGED]
    listing = ", ".join(f"{row.mechanism} {row.share:.2f}" for row in shares)
    left_out = ""
    if len(judged) < len(rows):
        left_out = (
            f" ({len(rows) - len(judged)} of them left out: p(refusal) gains less than {rules.min_gain})"
        )
    reason = f"of {n_requests} requests {len(rows)} flip{left_out}: {listing}"
    named = [row for row in shares if row.mechanism not in OPEN_MECHANISMS]
    still_open = [row for row in shares if row.mechanism in OPEN_MECHANISMS]
    if not named or named[0].share < rules.min_agreement:
        greatest = sum(row.share for row in [*named[:1], *still_open])
        is_undecided = greatest >= rules.min_agreement - 1e-9  # sums of shares are rounded
        for row in still_open:
            reason += (
                f"; {row.mechanism} is {OPEN_MECHANISMS[row.mechanism]}{_describe(judged, row.mechanism)}"
            )
        return MechanismVerdict("undecided" if is_undecided else "mixed", reason, shares)
    first = named[0]
    where = f"after block {first.depth:g} of {first.n_layers}"
    if first.depth > first.n_layers:
        where = "in the unembedding"
    interval = _describe(judged, first.mechanism) or f" [{first.low:.2f}, {first.high:.2f}]"
    return MechanismVerdict(first.mechanism, f"{reason}{interval}; complete {where}", shares)


def _describe(rows: Sequence[MechanismRow], mechanism: str) -> str:
    """What the readers of a mechanism's groups of requests still read; empty without readings."""
    readings = _readings([row for row in rows if row.mechanism == mechanism])
    shares = ", ".join(f"{share:.2f} [{low:.2f}, {high:.2f}]" for share, low, high in readings)
    n = "one group" if len(readings) == 1 else f"{len(readings)} groups"
    return f" (by {n} of requests: readers keep {shares} of their skill)" if readings else ""


def _readings(rows: Sequence[MechanismRow]) -> list[tuple[float, float, float]]:
    """Share of answers that readers still read, with its interval, once per group of requests."""
    read = [row for row in rows if row.mechanism in ("rewrite", "erase", "unread")]
    columns = ((row.answer_share, row.answer_share_low, row.answer_share_high) for row in read)
    return sorted({values for values in columns if None not in values})  # type: ignore[arg-type]


def _too_few(rows: Sequence[MechanismRow], n_requests: int) -> str:
    """Why no request is judged: refusal is known not to change, or too few requests flip to know more."""
    rules, n_flips = VERDICT_RULES, len(rows)
    low, high = wilson_interval(n_flips, n_requests) if n_requests else (0.0, 1.0)
    flips = f"{n_flips} of {n_requests} requests are refused by the tuned model and not by the base"
    if high < rules.min_flip_rate:
        return f"refusal does not change: {flips} [{low:.2f}, {high:.2f}]"
    n_needed = max(rules.min_flips, math.ceil(rules.min_flip_rate * n_requests))
    n_gains = sum(row.gain >= rules.min_gain for row in rows)
    if n_gains == n_flips:
        return f"too few requests that flip: {flips}; at least {n_needed} are needed"
    gains = f"in {n_gains} of these p(refusal) gains at least {rules.min_gain}"
    return f"too few requests to judge: {flips}, {gains}; at least {n_needed} are needed"
