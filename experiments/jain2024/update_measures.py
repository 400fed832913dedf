"""Measures of the update: its geometry, how refusal comes about, and which components carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from experiments.jain2024.activation_measures import sample_families
from experiments.jain2024.sampled_measures import SampledMeasure, fit_and_score
from makebreak.configs import check_positive
from makebreak.mechanism import (
    ChangedRequests,
    activation_patching_rows,
    compare,
    direction_rows,
    input_gain_rows,
    kernel_share_rows,
    localisation_rows,
    refusal_rank_rows,
    shared_activations,
    update_energy_rows,
    update_projection_rows,
    weighted_energy_rows,
)
from makebreak.model_zoo import Measurement, Subject
from makebreak.tables import as_dicts

N_PROJECTION_DRAWS = 20
"""Random subspaces of each dimension that a part of an update is compared with."""


@dataclass(frozen=True)
class UpdateMeasure(SampledMeasure):
    """Stitching, mechanism of refusal, pre-activations, update, read gain, sensitivity, energy and kernels.

    Stitching uses the requests whose answer the last stage changed (a sham's own partition, the remap
    control's own answer). Columns `stitching.COLUMN` are those of the cut after block n_layers // 2. A base
    has no columns and tables.
    """

    tag: ClassVar[str] = "Change"
    name: ClassVar[str] = "jain2024-change"
    revision: ClassVar[int] = 7

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        if not subject.recipe.alignments:
            return Measurement()
        model, base = subject.model, subject.base
        requests, data = sample_families(subject, self.n), subject.recipe.alignment_data
        changed = None
        if data is not None:
            unsafe, safe = subject.sample(data.unsafe, self.n), subject.sample(data.safe, self.n)
            changed = ChangedRequests(unsafe, data.answer, safe)
        standard = {family: requests[family] for family in ("safe", "unsafe")}
        other_base = subject.other_base()
        with shared_activations(subject.activations):
            comparison = compare(
                requests,
                base=base,
                tuned=model,
                changed_requests=changed,
                other_base=other_base,
                seed=subject.recipe.seed,
            )
            pretraining = subject.sample("pretraining", self.n, "any")
            models = {"base": base, "tuned": model}
            tables = comparison.tables | {
                "energy": as_dicts(update_energy_rows(standard, pretraining, **models)),
                "weighted_energy": as_dicts(weighted_energy_rows(standard, pretraining, **models)),
                "kernel_share": as_dicts(kernel_share_rows(requests, **models, other_base=other_base)),
                "input_gain": as_dicts(input_gain_rows(requests, **models)),
            }
        columns = {}
        for row in tables["stitching"]:
            if row["layer"] == row["n_layers"] // 2:
                for name in (
                    "lower_margin_share",
                    "upper_margin_share",
                    "random_margin_share",
                    "fisher_null_fraction",
                ):
                    columns[f"stitching.{name}"] = row[name]
        return Measurement(columns, tables)


@dataclass(frozen=True)
class UpdateProjectionMeasure(SampledMeasure):
    """Share of the refusal margin that parts of the learnt update carry, on requests that the stage is about.

    Table: `update_projection`, one row per set of matrices, rank rule and subspace.
    """

    tag: ClassVar[str] = "UpdateProjection"
    name: ClassVar[str] = "jain2024-update-projection"
    revision: ClassVar[int] = 1
    n_draws: int = N_PROJECTION_DRAWS
    """Number of random subspaces of each dimension."""

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model; one without a stage that teaches refusals or remapped answers has no table."""
        data = subject.recipe.alignment_data
        if data is None:
            return Measurement()
        rows = update_projection_rows(
            subject.sample(data.unsafe, self.n),
            base=subject.base,
            tuned=subject.model,
            answer=data.answer,
            n_draws=self.n_draws,
            seed=subject.recipe.seed,
        )
        return Measurement(tables={"update_projection": as_dicts(rows)})


@dataclass(frozen=True)
class LocalisationMeasure(SampledMeasure):
    """Components of the update that carry the refusal margin, activation patching, and refusal directions.

    Column: `refusal_rank`, the fewest directions found whose ablation leaves less than half refused; an upper
    bound, None if there is no such number.
    """

    tag: ClassVar[str] = "Where"
    name: ClassVar[str] = "jain2024-where"
    revision: ClassVar[int] = 4
    n_pairs: int = field(default=8, metadata={"key": "orders"})
    """Number of pairs of a random order and its reverse for the Shapley values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(n_pairs=self.n_pairs)

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        model, base, seed = subject.model, subject.base, subject.recipe.seed
        fit, score = fit_and_score(subject, self.n)
        ranks = as_dicts(refusal_rank_rows(model, fit, score.unsafe, seed=seed))
        tables: dict[str, Sequence[Any]] = {
            "localisation": localisation_rows(
                score.unsafe, base=base, tuned=model, n_pairs=self.n_pairs, seed=seed
            ),
            "patching": activation_patching_rows(score.unsafe, base=base, tuned=model),
            "directions": direction_rows(model, fit, score, seed=seed),
            "refusal_rank": ranks,
        }
        below_half = [float(row["n_directions"]) for row in ranks if row["refusal_rate"] < 0.5]
        columns = {"refusal_rank": below_half[0] if below_half else None}
        return Measurement(columns, {name: as_dicts(rows) for name, rows in tables.items()})
