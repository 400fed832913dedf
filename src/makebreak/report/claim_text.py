"""Sentences that read evaluated claims: the value, what it is compared with, and what does not follow."""

from __future__ import annotations

from collections.abc import Sequence

from makebreak.claims import LEVEL, VERDICTS, ClaimRow, format_value

_OPPOSITE = {"above": "below", "below": "above"}


def describe_claim(row: ClaimRow, parts: Sequence[ClaimRow] = ()) -> str:
    """Sentences that read an evaluated claim.

    Args:
        row: The claim.
        parts: The parts of a conjunction.

    Returns:
        Value, unit, interval, number of seeds, and their place relative to bound and no effect; of a
        conjunction, how many parts are supported; why a claim was not run. Holm's p where it decides.
    """
    if row.verdict == "not run" and not parts:
        return f"Not run: {row.reason}."
    if parts:
        n_supported = sum(part.verdict == "supported" for part in parts)
        sentences = [f"{n_supported} of {len(parts)} parts are supported; the claim needs all."]
        is_list_of_ids = row.reason.startswith(f"{row.verdict}: ")
    else:
        unit = f" ({row.unit})" if row.unit else ""
        sentences = [f"The value is {format_value(row)}{unit}: {_place(row)}."]
        is_list_of_ids = False
    if row.reason and not is_list_of_ids:
        sentences.append(f"{row.reason[0].upper()}{row.reason[1:]}.")
    if row.p_holm is not None and row.p_holm >= LEVEL / 10:
        sentences.append(f"Holm-adjusted p = {row.p_holm:.3f}.")
    return " ".join(sentences)


def _place(row: ClaimRow) -> str:
    """Where the interval of a value lies, by its verdict."""
    if row.verdict == "inconclusive":
        return _undecided(row)
    null = f"no effect ({row.no_effect:g})"
    if row.verdict == "negligible":
        return f"closer than {row.negligible:g} to {null}, which counts as negligible whatever its sign"
    if row.side == "within":
        if row.verdict == "supported":
            return f"within {_bound(row)} of {null}"
        return f"farther from {null} than {_bound(row)}, the opposite of what is claimed"
    other = _OPPOSITE[row.side]
    if row.verdict == "supported":
        return f"{row.side} {_bound(row)}"
    if row.verdict == "weaker than stated":
        return f"{row.side} {null}, but {other} {_bound(row)}; the direction is shown, the stated size is not"
    if row.no_effect == row.bound:
        return f"{other} {_bound(row)}, the opposite of what is claimed"
    return f"{other} {null}, the opposite of what is claimed ({row.side} {_bound(row)})"


def _undecided(row: ClaimRow) -> str:
    """What an interval contains that keeps a claim undecided."""
    if row.interval is None or row.bound is None or row.no_effect is None:
        return f"not decided against {_bound(row)}"
    low, high = row.interval
    null, bounds = row.no_effect, (row.bound,)
    if row.side == "within":
        bounds = null - row.bound, null + row.bound
    contains_bound = any(low <= bound <= high for bound in bounds)
    contains_null = low <= null <= high
    if contains_null and contains_bound and (row.side == "within" or null != row.bound):
        return f"not decided, the interval contains no effect ({null:g}) and {_bound(row)}"
    if contains_bound:
        lies = f", though it lies {row.side} no effect ({null:g})" if _is_claimed_side(row) else ""
        return f"not decided, the interval contains {_bound(row)}{lies}"
    if contains_null and row.side != "within":
        return f"not {row.side} {_bound(row)}, but whether there is an effect is not decided"
    return "not decided"


def _is_claimed_side(row: ClaimRow) -> bool:
    """Whether an interval lies wholly on the claimed side of no effect."""
    assert row.interval is not None
    assert row.no_effect is not None
    low, high = row.interval
    return (row.side == "above" and low > row.no_effect) or (row.side == "below" and high < row.no_effect)


def _bound(row: ClaimRow) -> str:
    source = "us" if row.bound_source == "ours" else row.bound_source
    return f"the bound of {row.bound:g} set by {source}"


def count_text(rows: Sequence[ClaimRow]) -> str:
    """How many claims have each verdict.

    Args:
        rows: The claims.

    Returns:
        Such as `Of 6 claims: 2 supported, 1 inconclusive, 3 not run.`
    """
    counts = [(sum(row.verdict == verdict for row in rows), verdict) for verdict in VERDICTS]
    listed = ", ".join(f"{n} {verdict}" for n, verdict in counts if n)
    return f"Of {len(rows)} claim{'s' if len(rows) > 1 else ''}: {listed}."
