"""Sentence of a summary on the loss on plain text."""

from __future__ import annotations

from makebreak.report.conditions import NO_INTERVENTION
from makebreak.tables import Rows


def describe_utility(utility: Rows) -> str:
    """One sentence on the loss on plain text, and its increase under other conditions.

    Args:
        utility: Rows of the table `utility`; the first one is what the others are compared with.

    Returns:
        The sentence.
    """
    first, *others = utility
    name = "" if first["condition"] == NO_INTERVENTION else f" {first['condition']}"
    text = (
        f"Loss on plain text{name}: {first['nll']:.2f} [{first['low']:.2f}, {first['high']:.2f}] nats per "
        f"token (n = {first['n']} texts)"
    )
    parts = [
        f"{row['condition']} {row['nll']:.2f}"
        + (
            ""
            if row["increase"] is None
            else f" ({row['increase']:+.2f} [{row['increase_low']:+.2f}, {row['increase_high']:+.2f}])"
        )
        for row in others
    ]
    return f"{text}; {', '.join(parts)}." if parts else f"{text}."
