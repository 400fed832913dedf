"""Claims of a study: a value in natural units, a bound, and the verdict of its interval over seeds.

Pretraining seeds are the unit of analysis (alignment seeds for language models). The verdicts:

| verdict | interval of the value |
| --- | --- |
| supported | beyond the bound, on the claimed side |
| contradicted | on the other side of no effect |
| negligible | within the margin of negligibility around no effect |
| weaker than stated | on the claimed side of no effect, short of the bound |
| inconclusive | none of these, or one seed |
| not run | there is none; the reason says why |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from makebreak.stats import one_sided_t_test

Verdict = Literal["supported", "contradicted", "negligible", "weaker than stated", "inconclusive", "not run"]
VERDICTS: tuple[Verdict, ...] = (
    "supported",
    "weaker than stated",
    "negligible",
    "contradicted",
    "inconclusive",
    "not run",
)
"""All verdicts, in the order in which a report counts them."""
Role = Literal["primary", "part", "check"]
"""`primary`: corrected together with the other primary claims of its study (Holm 1979); `part`: descriptive;
`check`: a property that settings were tuned for."""
Side = Literal["above", "below", "within"]
"""Where the value is claimed to lie: above or below the bound, or at most the bound from no effect."""
Tables = Mapping[str, pd.DataFrame]
"""Tables of a study by name; each has a column `seed`."""
Value = Callable[[Tables], pd.Series]
"""Value of a claim by seed, NaN where undefined; raises `NotRun` if the tables lack what it needs."""
_ROUNDING = 1e-12
OURS = "ours"
"""Source of claims and bounds that no paper states."""


def are_equal(values: Sequence[float]) -> bool:
    """Whether all values are the same up to rounding, so that they have no interval."""
    return max(values) - min(values) <= _ROUNDING * max(1.0, abs(max(values)))


class NotRun(LookupError):
    """The tables of a study lack the rows that a claim is about; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement, the value that decides it, and the bound that the value must pass."""

    id: str
    """Name; `C2.depth` is a part of C2."""
    statement: str
    """The claim as a sentence."""
    quantity: str = ""
    """What the value is, in words."""
    unit: str = ""
    """Unit of the value."""
    value: Value | None = None
    """Function that returns the value by seed; None for a conjunction of `parts`."""
    side: Side = "above"
    """Where the value is claimed to lie, relative to the bound."""
    bound: float = 0.0
    """Bound that the value must pass; for `within`, the greatest distance from no effect."""
    bound_source: str = OURS
    """Who set the bound: a paper, or `ours`."""
    no_effect: float | None = None
    """Value under no effect; None if it is the bound (for `within`, 0)."""
    negligible: float = 0.0
    """Distance from no effect below which a value is negligible."""
    source: str = OURS
    """Paper and place that the claim is from, or `ours`."""
    role: Role = "part"
    """Role of the claim in its study."""
    parts: tuple[str, ...] = ()
    """Ids of the claims that must all be supported, for a conjunction."""

    def __post_init__(self) -> None:
        if (self.value is None) == (not self.parts):
            raise ValueError(f"claim {self.id}: expected either a value or parts")
        sign = {"above": 1, "below": -1, "within": 0}[self.side]
        if sign * self.bound < sign * self.null:
            raise ValueError(
                f"claim {self.id}: bound {self.bound} is not on the claimed side ({self.side}) of no effect "
                f"({self.null})"
            )
        if self.side == "within" and not self.bound > 0:
            raise ValueError(f"claim {self.id}: bound {self.bound}: expected a positive distance")

    @property
    def null(self) -> float:
        """Value under no effect."""
        if self.no_effect is not None:
            return self.no_effect
        return 0.0 if self.side == "within" else self.bound

    def verdict(self, low: float, high: float) -> Verdict:
        """Verdict of an interval of the value.

        Args:
            low: Lower end.
            high: Upper end.

        Returns:
            The verdict. An interval within the margin of negligibility is negligible even if it lies beyond
            the bound.
        """
        if self.side == "below":  # mirrored: the claimed side is above
            low, high, null, bound = -high, -low, -self.null, -self.bound
        else:
            null, bound = self.null, self.bound
        if self.side == "within":
            if null - bound < low and high < null + bound:
                return "supported"
            is_outside = high < null - bound or low > null + bound
            return "contradicted" if is_outside else "inconclusive"
        if null - self.negligible < low and high < null + self.negligible:
            return "negligible"
        if low > bound:
            return "supported"
        if high < null:
            return "contradicted"
        return "weaker than stated" if low > null and high < bound else "inconclusive"

    def p_value(self, values: list[float], verdict: Verdict) -> float:
        """Level at which an interval of the value first has a verdict.

        Args:
            values: One value per seed, at least two.
            verdict: The verdict.

        Returns:
            One-sided p of Student's test, the greater of two for a verdict with two conditions; of
            `inconclusive`, that of `supported`. If all seeds are equal, that of the sign test, 2^-n.
        """
        if are_equal(values):
            return 0.5 ** len(values)
        sign = -1.0 if self.side == "below" else 1.0
        mirrored = [sign * value for value in values]
        null, bound, margin = sign * self.null, sign * self.bound, self.negligible

        def p_above(x: float) -> float:
            return one_sided_t_test(mirrored, x)

        def p_below(x: float) -> float:
            return one_sided_t_test([-value for value in mirrored], -x)

        if self.side == "within":
            if verdict == "contradicted":
                return min(p_above(null + bound), p_below(null - bound))
            return max(p_above(null - bound), p_below(null + bound))
        if verdict == "negligible":
            return max(p_above(null - margin), p_below(null + margin))
        if verdict == "contradicted":
            return p_below(null)
        if verdict == "weaker than stated":
            return max(p_above(null), p_below(bound))
        return p_above(bound)
