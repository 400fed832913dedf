"""What does the study look at inside each model? Clusters, null shares, the update, and the rivals, with controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.jain2024.presets import EXTRAPOLATED, METHODS
from makebreak.behaviour import behaviour
from makebreak.configs import check_positive
from makebreak.mechanism import (
    Pair,
    cluster_rows,
    compare,
    direction_rows,
    energy_rows,
    null_share_rows,
    part_rows,
    patch_rows,
    rank_rows,
)
from makebreak.models import extrapolated
from makebreak.requests import Requests
from makebreak.training import Pretraining
from makebreak.zoo import Families, Measure, Measured, Strength, Subject

SHAM_FAMILIES = ("sham_safe", "sham_unsafe")
FAMILIES = ("safe", "unsafe", "context_safe", "context_unsafe", *SHAM_FAMILIES)
ALPHAS = (0.0, 0.5, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0)
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
        score = _asked(subject, self.n)
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


@dataclass(frozen=True)
class Change:
    """What alignment changed and how that makes a model refuse: rivals, anatomy, update and sensitivity, per layer.

    The rivals are asked of what the last stage taught (a sham's own partition, a remap twin's own answer). Columns are
    those of the cut at half depth. A base has none of it. n: requests per family.
    """

    name: ClassVar[str] = "jain2024-change"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        if not subject.recipe.alignments:
            return Measured()
        model, base, seed = subject.model, subject.base, subject.recipe.seed
        asked, objective = _asked(subject, self.n), subject.recipe.alignments[-1].objective
        data = None if isinstance(objective, Pretraining) else objective.data
        found = compare(
            base,
            model,
            asked,
            taught=None if data is None else subject.asked(data.unsafe, self.n),
            answer="refused" if data is None else data.answer,
            other=subject.other_base(),
            seed=seed,
        )
        half = [row for row in found.tables["rivals"] if row["layer"] == row["n_layers"] // 2]
        names = ("lower_share", "upper_share", "random_share", "unheard")
        columns = {f"half.{name}": row[name] for row in half for name in names}
        standard = {family: asked[family] for family in ("safe", "unsafe")}
        energy = energy_rows(model, base, standard, subject.asked("pretraining", self.n, "any"))
        return Measured(columns, found.tables | {"energy": energy})


@dataclass(frozen=True)
class Where:
    """Which parts of the update carry the margin, and which directions refusal hangs on. n: requests per family."""

    name: ClassVar[str] = "jain2024-where"
    revision: ClassVar[int] = 1
    n: int = 500
    orders: int = 4

    def __post_init__(self) -> None:
        check_positive(n=self.n, orders=self.orders)

    def __call__(self, subject: Subject) -> Measured:
        model, base, seed = subject.model, subject.base, subject.recipe.seed
        fit, score = (
            Pair(*(subject.asked(family, self.n, split) for family in ("safe", "unsafe"))) for split in ("fit", "score")
        )
        ranks = rank_rows(model, fit, score.unsafe, seed=seed)
        tables = {
            "parts": part_rows(model, base, score.unsafe, orders=self.orders, seed=seed),
            "patches": patch_rows(model, base, score.unsafe),
            "directions": direction_rows(model, fit, score, seed=seed),
            "ranks": ranks,
        }
        below = [float(row["directions"]) for row in ranks if row["refused"] < 0.5]
        return Measured({"refusal_rank": below[0] if below else None}, tables)


@dataclass(frozen=True)
class Extrapolation:
    """Rates at W + α ΔW for each of `ALPHAS` (Jain et al. 2024, §4.2). n: requests per family."""

    name: ClassVar[str] = "jain2024-extrapolation"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        rows = []
        for alpha in ALPHAS:
            model = extrapolated(subject.base, subject.model, alpha)
            for family in ("safe", "unsafe"):
                found = behaviour(model, subject.world, subject.asked(family, self.n))
                rows.append({"alpha": alpha, "family": family, **found.rates, "margin": found.margin})
        return Measured(tables={"extrapolation": rows})


def _asked(subject: Subject, n: int) -> dict[str, Requests]:
    return {family: subject.asked(family, n) for family in FAMILIES}


def measures(n: int, arm: str) -> tuple[Measure, ...]:
    """All that a model of the study is measured by; the first one alone at kept steps."""
    everywhere = (Strength(n), Families(n), Inside(n), Change(n))
    where = (Where(n),) if arm in METHODS else ()
    return (*everywhere, *where, *((Extrapolation(n),) if arm in EXTRAPOLATED else ()))
