"""Claims of a study and their verdicts, from one number per claim and pretraining seed.

Every statistic is oriented so that larger values support the claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from makebreak.stats import holm_adjust, mean_confidence_interval, one_sided_t_test

Verdict = Literal["supported", "not supported", "inconclusive", "not run"]


@dataclass(frozen=True)
class Claim:
    """A statement and how it is decided, written down before it is measured."""

    id: str
    """Name of the claim; `C2.depth` is a part of C2, and the bare id is the primary part."""
    kind: Literal["claim", "check"]
    """`claim`, or `check` for a property that settings were tuned for."""
    source: str
    """Paper and place that the claim is from, or "ours"."""
    statement: str
    """The claim as a sentence."""
    statistic: str
    """What is measured, in words."""
    unit: str
    """Unit of the statistic."""
    threshold: float
    """Value that the statistic must exceed."""
    chance: float = 0.0
    """Value of the statistic under the control; 0 for a statistic that is a difference to its control."""
    equivalence: float = 0.0
    """Half-width around `chance` within which a whole interval counts against the claim."""

    def evaluate(self, values: Sequence[float | None], reason: str = "") -> dict[str, Any]:
        """A row of claims.json from one value per seed.

        Args:
            values: One value per seed; None where it is undefined.
            reason: Why the claim was not run, if it was not.

        Returns:
            The claim's fields with estimate, interval, number of seeds and verdict, and with a reason if the
            verdict is `not run`: for no values, or undefined ones.
        """
        defined = [v for v in values if v is not None]
        if not defined or len(defined) < len(values):
            undefined = f"undefined on {len(values) - len(defined)} of {len(values)} seeds"
            return self._row(None, [None, None], len(defined), "not run") | {"reason": reason or undefined}
        mean, low, high, n = mean_confidence_interval(defined)
        return self._row(mean, [low, high], n, self.verdict(low, high))

    def verdict(self, low: float | None, high: float | None) -> Verdict:
        """Verdict of an interval.

        Args:
            low: Lower end; None for one seed.
            high: Upper end; None for one seed.

        Returns:
            `not supported` if the interval is wholly below the threshold, or inside the equivalence margin
            even if it is above the threshold; `supported` if it is wholly above threshold and chance;
            `inconclusive` otherwise, and always for one seed.
        """
        if low is None or high is None:
            return "inconclusive"
        is_equivalent = low > self.chance - self.equivalence and high < self.chance + self.equivalence
        if high < self.threshold or is_equivalent:
            return "not supported"
        if low > self.threshold and low > self.chance:
            return "supported"
        return "inconclusive"

    def _row(
        self, estimate: float | None, interval: list[float | None], n: int, verdict: Verdict
    ) -> dict[str, Any]:
        row = {k: v for k, v in asdict(self).items() if k != "equivalence"}
        return row | {"estimate": estimate, "interval": interval, "n_seeds": n, "verdict": verdict}


def holm_adjust_claims(
    rows: Sequence[dict[str, Any]], values: Mapping[str, Sequence[float | None]], level: float = 0.025
) -> list[dict[str, Any]]:
    """Rows of claims whose verdicts are Holm-corrected together; intervals stay those of each claim alone.

    A supported claim of the group becomes inconclusive if its Holm-adjusted p of exceeding threshold and
    chance is not below the level.

    Args:
        rows: Rows of `Claim.evaluate`.
        values: Values of each claim of the group by id, one per seed; claims that were not run do not count.
        level: One-sided level of the group.

    Returns:
        The rows in their order, with corrected verdicts and reasons.
    """
    by_id = {row["id"]: row for row in rows}
    p_values = {}
    for name, of_seeds in values.items():
        if by_id[name]["n_seeds"] > 1:
            null = max(by_id[name]["threshold"], by_id[name]["chance"])
            p_values[name] = one_sided_t_test([v for v in of_seeds if v is not None], null)
    adjusted = dict(zip(p_values, holm_adjust(list(p_values.values())), strict=True))
    return [_corrected(row, adjusted, level) for row in rows]


def _corrected(row: dict[str, Any], p_values: Mapping[str, float], level: float) -> dict[str, Any]:
    """A row with its verdict by adjusted p-values, by id; claims outside the group are unchanged."""
    p = p_values.get(row["id"], 0.0)
    if row["verdict"] != "supported" or p < level:
        return row
    others = ", ".join(name for name in p_values if name != row["id"])
    reason = f"supported alone, but not after Holm's correction together with {others}: adjusted p {p:.3f}"
    return row | {"verdict": "inconclusive", "reason": reason}


def format_claims(rows: Sequence[dict[str, Any]]) -> str:
    """The claims as an aligned table for the terminal."""
    cells = [("id", "kind", "verdict", "estimate", "95 % interval", "threshold", "seeds", "statement")]
    for row in rows:
        estimate = "n/a" if row["estimate"] is None else f"{row['estimate']:+.3f}"
        low, high = row["interval"]
        interval = "n/a" if low is None else f"[{low:+.3f}, {high:+.3f}]"
        threshold, seeds = f"{row['threshold']:+.3f}", str(row["n_seeds"])
        cells.append(
            (row["id"], row["kind"], row["verdict"], estimate, interval, threshold, seeds, row["statement"])
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]) - 1)]
    lines = []
    for *columns, statement in cells:
        padded = [cell.ljust(width) for cell, width in zip(columns, widths, strict=True)]
        lines.append("  ".join([*padded, statement]))
    return "\n".join(lines)
