"""What does the study look at inside each model? Clusters and null shares, with their controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from makebreak.configs import check_positive
from makebreak.mechanism import cluster_rows, null_share_rows
from makebreak.zoo import Families, Measured, Strength, Subject

SHAM_FAMILIES = ("sham_safe", "sham_unsafe")
_PAIRS = {"standard": ("safe", "unsafe"), "token-matched": ("context_safe", "context_unsafe")}


@dataclass(frozen=True)
class Inside:
    """Clusters at the end of text and energies in the base's null spaces, per layer. n: requests per family."""

    name: ClassVar[str] = "jain2024-inside"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        model, seed = subject.model, subject.recipe.seed
        fit = [subject.asked(family, self.n, "fit") for family in ("safe", "unsafe")]
        score = {
            f: subject.asked(f, self.n) for f in ("safe", "unsafe", "context_safe", "context_unsafe", *SHAM_FAMILIES)
        }
        outcomes = {family: subject.behaviour(family, self.n).outcomes for family in score}
        clusters = cluster_rows(
            model,
            (fit[0], fit[1]),
            {name: (score[safe], score[unsafe]) for name, (safe, unsafe) in _PAIRS.items()},
            n_groups=len(set(fit[0].truth["grammar"].tolist())),
            seed=seed,
        )
        last = max(row["layer"] for row in clusters)
        columns = {
            f"{row['requests']}.{name}": row[name]
            for row in clusters
            if row["layer"] == last
            for name in ("normalised", "auroc")
        }
        shares = null_share_rows(model, subject.base, score, outcomes, seed=seed)
        return Measured(columns, {"clusters": clusters, "null_share": shares})


def measures(n: int) -> tuple[Strength, Families, Inside]:
    return Strength(n), Families(n), Inside(n)
