"""What does the study look at inside each model, at its end and on the way? Every look with its controls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch

from experiments.jain2024.attacks import Attacks, Visible
from experiments.jain2024.presets import CONFINED, EXTRAPOLATED, METHODS, Preset
from makebreak.behaviour import behaviour
from makebreak.configs import check_positive
from makebreak.defences import Mixed
from makebreak.mechanism import (
    Labelled,
    Pair,
    cluster_rows,
    compare,
    confined_rows,
    direction_rows,
    energy_rows,
    label_rows,
    null_share_rows,
    part_rows,
    patch_rows,
    rank_rows,
    shift_rows,
)
from makebreak.models import extrapolated, n_layers
from makebreak.requests import OUTCOMES, Requests
from makebreak.training import FineTuning, Pretraining
from makebreak.zoo import Families, Measure, Measured, Strength, Subject

SHAM_FAMILIES = ("sham_safe", "sham_unsafe")
FAMILIES = ("safe", "unsafe", "context_safe", "context_unsafe", *SHAM_FAMILIES)
# where unsafe and refused may part: jailbreaks, and safe requests that are refused
LABELLED = (
    *("safe", "unsafe", "context_safe", "context_unsafe", "mixed_text"),
    *("competing_tasks_safe_branch", "competing_tasks_unsafe_branch", "duplicate_tasks"),
)
LEAST = 10  # requests for a mean
ALPHAS = (0.0, 0.5, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0)
_PAIRS = {"standard": ("safe", "unsafe"), "token-matched": ("context_safe", "context_unsafe")}


@dataclass(frozen=True)
class Inside:
    """Clusters at the end of text and energies in the base's null spaces, per layer.

    Columns: clusters of the last layer; null share of W·a (exact rank, mean of layers) per family, and per family and
    outcome where at least `LEAST` requests came out so. n: requests per family.
    """

    name: ClassVar[str] = "jain2024-inside"
    revision: ClassVar[int] = 3
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
        shares = null_share_rows(model, subject.base, score, outcomes, other=subject.other_base(), seed=seed)
        return Measured(columns | _null_shares(shares), {"clusters": clusters, "null_share": shares})


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
        data = None if isinstance(objective, Pretraining | FineTuning | Mixed) else objective.data
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
        fit, score = _pairs(subject, self.n)
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
class Apart:
    """Is `unsafe` represented apart from `refused`, and does a shift along their difference do more than others?

    The labels are those that the model's answers give, jailbreaks among them; beside each model stands its base with
    the same labels. Shifts are made before the block at half depth. n: requests per family.
    """

    name: ClassVar[str] = "jain2024-apart"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        model, seed = subject.model, subject.recipe.seed
        families = [family for family in LABELLED if family in subject.world.families]
        asked = {
            family: Labelled(
                subject.asked(family, self.n),
                subject.behaviour(family, self.n).outcomes == OUTCOMES.index("refuse"),
            )
            for family in families
        }
        labels = [
            {"network": network} | row
            for network, of in (("aligned", model), ("base", subject.base))
            for row in label_rows(of, asked, seed=seed)
        ]
        fit, score = _pairs(subject, self.n)
        grammar = torch.from_numpy(np.concatenate([requests.truth["grammar"] for requests in fit]))
        shifts = shift_rows(model, fit, score, other=grammar, layer=n_layers(model) // 2, seed=seed)
        return Measured(tables={"labels": labels, "shifts": shifts})


@dataclass(frozen=True)
class Confined:
    """The last stage again, from the base, with only the MLP inputs trained and their update held in a subspace."""

    name: ClassVar[str] = "jain2024-confined"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        stage = subject.recipe.alignments[-1]
        score = {family: subject.asked(family, self.n) for family in ("safe", "unsafe")}
        rows = confined_rows(
            subject.base, stage.objective, stage.optimisation, subject.world, score, seed=subject.recipe.seed
        )
        return Measured(tables={"confined": rows})


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


def _pairs(subject: Subject, n: int) -> tuple[Pair, Pair]:
    """Safe and unsafe requests to fit on, and others to score on."""
    fit, score = (
        Pair(*(subject.asked(family, n, split) for family in ("safe", "unsafe")))
        for split in ("fit", "score")
    )
    return fit, score


def _null_shares(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """`null_share.FAMILY`, and `null_share.FAMILY.OUTCOME`: means over layers."""
    columns: dict[str, float | None] = {}
    for family, outcome in product(FAMILIES, ("all", *OUTCOMES)):
        found = [row for row in rows if (row["family"], row["outcome"]) == (family, outcome)]
        found = [
            row for row in found if (row["rule"], row["quantity"]) == ("exact", "pre") and row["n"] >= LEAST
        ]
        shares = [row["share"] for row in found if row["share"] is not None]
        name = f"null_share.{family}" if outcome == "all" else f"null_share.{family}.{outcome}"
        columns[name] = sum(shares) / len(shares) if shares else None
    return columns


def at_end(preset: Preset, arm: str) -> tuple[Measure, ...]:
    """All that a finished model of the study is measured by."""
    n = preset.n_requests
    found: tuple[Measure, ...] = (Strength(n), Families(n), Inside(n), Change(n))
    if arm in ("base", *METHODS):
        found += attacks(preset)
    if arm in METHODS:
        found += (Where(n), Apart(n))
    if arm in CONFINED and preset.thorough:
        found += (Confined(n),)
    return (*found, Extrapolation(n)) if arm in EXTRAPOLATED else found


def attacks(preset: Preset) -> tuple[Measure, ...]:
    """All that a model of another world is measured by."""
    small = {} if preset.thorough else {"steps": 4, "candidates": 16}
    return (Attacks(preset.n_requests, preset.attacked, **small), Visible(preset.n_requests))


def on_the_way(preset: Preset, arm: str) -> tuple[Measure, ...]:
    """What kept steps before the last are measured by."""
    n = preset.n_requests
    return (Strength(n), Inside(n), Change(n)) if arm in METHODS and preset.thorough else (Strength(n),)
