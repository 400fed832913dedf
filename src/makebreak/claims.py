"""Does a claim hold here? One number per claim, oriented so that larger supports it, its interval, its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from makebreak.stats import exceeds, holm, over_seeds

Verdict = Literal["supported", "not supported", "inconclusive", "not run"]


@dataclass(frozen=True)
class Claim:
    """A statement and how it is decided, written down before it is measured.

    id: `C2.depth` is a part of C2; the bare id is the primary part. kind: `claim`, or `check` for what settings
    were tuned for. threshold: what the statistic must exceed. chance: what it is under the control, None where
    the statistic is already a difference to its control (then 0 is chance). equivalence: half-width around
    `chance` within which a whole interval counts against the claim.
    """

    id: str
    kind: Literal["claim", "check"]
    source: str
    statement: str
    statistic: str
    unit: str
    threshold: float
    chance: float = 0.0
    equivalence: float = 0.0

    def judge(self, values: Sequence[float | None], reason: str = "") -> dict[str, Any]:
        """A row of claims.json from one value per seed; no values, or undefined ones, give `not run`."""
        defined = [v for v in values if v is not None]
        if not defined or len(defined) < len(values):
            why = reason or f"undefined on {len(values) - len(defined)} of {len(values)} seeds"
            return self._row(None, [None, None], len(defined), "not run") | {"reason": why}
        found = over_seeds(defined)
        return self._row(found.mean, [found.low, found.high], found.n, self.verdict(found.low, found.high))

    def verdict(self, low: float | None, high: float | None) -> Verdict:
        """not supported: the interval wholly below the threshold, or inside the equivalence margin, even if above the
        threshold; supported: wholly above threshold and chance; else, and with one seed always, inconclusive."""
        if low is None or high is None:
            return "inconclusive"
        if high < self.threshold or (
            low > self.chance - self.equivalence and high < self.chance + self.equivalence
        ):
            return "not supported"
        if low > self.threshold and low > self.chance:
            return "supported"
        return "inconclusive"

    def _row(
        self, estimate: float | None, interval: list[float | None], n: int, verdict: Verdict
    ) -> dict[str, Any]:
        row = {k: v for k, v in asdict(self).items() if k != "equivalence"}
        return row | {"estimate": estimate, "interval": interval, "n_seeds": n, "verdict": verdict}


def hold_together(
    rows: Sequence[dict[str, Any]], values: Mapping[str, Sequence[float | None]], level: float = 0.025
) -> list[dict[str, Any]]:
    """The rows of a study, where claims that are held together stay `supported` only if Holm's method has each of them
    beyond its threshold and chance at a one-sided level. Intervals stay those of each claim alone.

    values: by id, one per seed, of all that are held together; those that were not run do not count.
    """
    by_id = {row["id"]: row for row in rows}
    tested = {
        name: [v for v in of if v is not None] for name, of in values.items() if by_id[name]["n_seeds"] > 1
    }
    beyond = [
        exceeds(of, max(by_id[name]["threshold"], by_id[name]["chance"])) for name, of in tested.items()
    ]
    adjusted = dict(zip(tested, holm(beyond), strict=True))

    def held(row: dict[str, Any]) -> dict[str, Any]:
        p = adjusted.get(row["id"], 0.0)
        if row["verdict"] != "supported" or p < level:
            return row
        reason = f"supported alone, not together with {', '.join(n for n in tested if n != row['id'])}: Holm's p {p:.3f}"
        return row | {"verdict": "inconclusive", "reason": reason}

    return [held(row) for row in rows]


def as_text(rows: Sequence[dict[str, Any]]) -> str:
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
    return "\n".join(
        "  ".join([cell.ljust(width) for cell, width in zip(line, widths, strict=False)] + [line[-1]])
        for line in cells
    )
