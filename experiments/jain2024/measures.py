"""Measures that the study takes of finished models and of checkpoints, each with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from experiments.jain2024.attack_measures import AttackMeasure
from experiments.jain2024.detectability_measure import DetectabilityMeasure
from experiments.jain2024.position_measures import AnswerPositionMeasure
from experiments.recipes.composition import (
    CONSTRAINED_ARMS,
    DOSE_ARMS,
    EXTRAPOLATED_ARMS,
    MATCHED_CONTROLS,
    METHODS,
    Preset,
)
from makebreak.configs import check_positive
from makebreak.evaluation import evaluate_behaviour
from makebreak.mechanism import (
    ChangedRequests,
    LabelledRequests,
    SafeUnsafeRequests,
    activation_patching_rows,
    cluster_rows,
    compare,
    constrained_finetuning_rows,
    direction_rows,
    harm_refusal_rows,
    input_gain_rows,
    kernel_share_rows,
    localisation_rows,
    matched_steering_rows,
    null_share_rows,
    refusal_rank_rows,
    shared_activations,
    update_energy_rows,
    update_projection_rows,
    weighted_energy_rows,
)
from makebreak.models import extrapolate_weights, n_layers
from makebreak.prompts import OUTCOMES, Requests
from makebreak.tables import Rows, as_dict, as_dicts
from makebreak.zoo import FamilyMeasure, Measure, Measurement, SafetyMeasure, Subject

SHAM_FAMILIES = ("sham_safe", "sham_unsafe")
"""Families of the sham controls: a random partition of requests that has nothing to do with safety."""
FAMILIES = ("safe", "unsafe", "context_safe", "context_unsafe", *SHAM_FAMILIES)
"""Families on which activations and updates are measured; `context_*` are token-matched."""
PROBE_FAMILIES = (
    *("safe", "unsafe", "context_safe", "context_unsafe", "mixed_text"),
    *("competing_tasks_safe_branch", "competing_tasks_unsafe_branch", "duplicate_tasks"),
)
"""Families of the probes, among them those where unsafe and refused can differ: jailbreaks, and safe requests
that are refused."""
MIN_REQUESTS = 10
"""Fewest requests from which a mean null share by outcome is computed."""
N_PROJECTION_DRAWS = 20
"""Random subspaces of each dimension that a part of an update is compared with."""
FEW_DRAWS = 5
"""The same in quick presets."""
EXTRAPOLATION_FACTORS = (0.0, 0.5, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0)
"""Factors α of the update in W + α ΔW."""
_PAIRS = {"standard": ("safe", "unsafe"), "token-matched": ("context_safe", "context_unsafe")}


class ExtrapolationRow(NamedTuple):
    """Behaviour on one family of the model whose update is multiplied by one factor."""

    alpha: float
    """Factor of the update; 1 is the aligned model, 0 the base."""
    family: str
    """Family of requests."""
    refuse: float
    """Share of requests that are refused."""
    comply: float
    """Share of requests that get the instructed answer."""
    comply_wrongly: float
    """Share of requests that get a well-formed answer which is neither of the two."""
    broken: float
    """Share of requests that get a degenerate answer."""
    margin: float
    """Mean refusal margin, in nats."""


@dataclass(frozen=True)
class _SampledMeasure:
    """Size of a measure on requests."""

    n: int = 500
    """Number of requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)


@dataclass(frozen=True)
class ClusterMeasure(_SampledMeasure):
    """Separation of safe and unsafe activations, and null shares of pre-activations, by layer.

    Columns: `PAIR.normalised` and `PAIR.auroc` of the clusters in the last layer; `null_share.FAMILY` and
    `null_share.FAMILY.OUTCOME`, mean over layers of the share of W_in·a in the base's left null space (exact
    rank), None for fewer than `MIN_REQUESTS` requests with the outcome. Tables: `clusters` and `null_share`.
    """

    tag: ClassVar[str] = "Inside"
    name: ClassVar[str] = "jain2024-inside"
    revision: ClassVar[int] = 8

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        model, seed = subject.model, subject.recipe.seed
        fit, _ = _fit_and_score(subject, self.n)
        score = _sample_families(subject, self.n)
        outcomes = {family: subject.behaviour(family, self.n).outcomes for family in score}
        pairs = {
            name: SafeUnsafeRequests(score[safe], score[unsafe]) for name, (safe, unsafe) in _PAIRS.items()
        }
        n_groups = len(set(subject.world.groups(fit.safe).tolist()))
        other_base = subject.other_base()
        with shared_activations(subject.activations):
            clusters = as_dicts(cluster_rows(model, fit, pairs, n_groups=n_groups, seed=seed))
            shares = as_dicts(
                null_share_rows(
                    score, outcomes, base=subject.base, tuned=model, other_base=other_base, seed=seed
                )
            )
        last = max(row["layer"] for row in clusters)
        columns = {}
        for row, name in product(clusters, ("normalised", "auroc")):
            if row["layer"] == last:
                columns[f"{row['requests']}.{name}"] = row[name]
        return Measurement(
            columns | _null_share_columns(shares), {"clusters": clusters, "null_share": shares}
        )


@dataclass(frozen=True)
class UpdateMeasure(_SampledMeasure):
    """Stitching, mechanism of refusal, pre-activations, update, read gain, sensitivity, energy and kernels.

    Stitching uses the requests whose answer the last stage changed (a sham's own partition, the remap
    control's own answer). Columns `stitching.COLUMN` are those of the cut after block n_layers // 2. A base
    has no columns and tables.
    """

    tag: ClassVar[str] = "Change"
    name: ClassVar[str] = "jain2024-change"
    revision: ClassVar[int] = 6

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        if not subject.recipe.alignments:
            return Measurement()
        model, base = subject.model, subject.base
        requests, data = _sample_families(subject, self.n), subject.recipe.alignment_data
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
class UpdateProjectionMeasure(_SampledMeasure):
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
class LocalisationMeasure(_SampledMeasure):
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
        fit, score = _fit_and_score(subject, self.n)
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


@dataclass(frozen=True)
class ProbeMeasure(_SampledMeasure):
    """Probes of unsafe and of refused in the aligned model and its base, and steering matched by disturbance.

    Requests, jailbreaks among them, are labelled by the aligned model's answers, for the base too. States are
    steered after block n_layers // 2. Tables: `probes` and `matched_steering`.
    """

    tag: ClassVar[str] = "Apart"
    name: ClassVar[str] = "jain2024-apart"
    revision: ClassVar[int] = 3

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        model, seed = subject.model, subject.recipe.seed
        requests = {}
        for family in PROBE_FAMILIES:
            if family in subject.world.families:
                refused = subject.behaviour(family, self.n).outcomes == OUTCOMES.index("refuse")
                requests[family] = LabelledRequests(subject.sample(family, self.n), refused)
        probes: Rows = []
        for network, weights in (("aligned", model), ("base", subject.base)):
            rows = harm_refusal_rows(weights, requests, seed=seed)
            probes += [{"network": network} | as_dict(row) for row in rows]
        fit, score = _fit_and_score(subject, self.n)
        grammar = torch.from_numpy(np.concatenate([subject.world.groups(part) for part in fit]))
        layer = n_layers(model) // 2
        steering = matched_steering_rows(model, fit, score, control_labels=grammar, layer=layer, seed=seed)
        return Measurement(tables={"probes": probes, "matched_steering": as_dicts(steering)})


@dataclass(frozen=True)
class ConstrainedMeasure(_SampledMeasure):
    """The last training stage repeated with only the MLP input matrices trained, in a subspace.

    Table: `constrained`, one row per subspace.
    """

    tag: ClassVar[str] = "Confined"
    name: ClassVar[str] = "jain2024-confined"
    revision: ClassVar[int] = 2

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        stage = subject.recipe.alignments[-1]
        score = {family: subject.sample(family, self.n) for family in ("safe", "unsafe")}
        rows = constrained_finetuning_rows(
            stage.objective,
            stage.optimisation,
            subject.world,
            score,
            base=subject.base,
            seed=subject.recipe.seed,
        )
        return Measurement(tables={"constrained": as_dicts(rows)})


@dataclass(frozen=True)
class ExtrapolationMeasure(_SampledMeasure):
    """Behaviour of W + α ΔW for each of `EXTRAPOLATION_FACTORS` (Jain et al. 2024, §4.2).

    Table: `extrapolation`, rows of `ExtrapolationRow`.
    """

    tag: ClassVar[str] = "Extrapolation"
    name: ClassVar[str] = "jain2024-extrapolation"
    revision: ClassVar[int] = 1

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        rows = []
        for alpha in EXTRAPOLATION_FACTORS:
            model = extrapolate_weights(alpha, base=subject.base, tuned=subject.model)
            for family in ("safe", "unsafe"):
                behaviour = evaluate_behaviour(model, subject.world, subject.sample(family, self.n))
                rows.append(ExtrapolationRow(alpha, family, **behaviour.rates, margin=behaviour.margin))
        return Measurement(tables={"extrapolation": as_dicts(rows)})


def _sample_families(subject: Subject, n: int) -> dict[str, Requests]:
    return {family: subject.sample(family, n) for family in FAMILIES}


def _fit_and_score(subject: Subject, n: int) -> tuple[SafeUnsafeRequests, SafeUnsafeRequests]:
    """Safe and unsafe requests that directions are fitted to, and others that they are scored on."""
    fit, score = (
        SafeUnsafeRequests(subject.sample("safe", n, split), subject.sample("unsafe", n, split))
        for split in ("fit", "score")
    )
    return fit, score


def _null_share_columns(rows: Rows) -> dict[str, float | None]:
    """`null_share.FAMILY` and `null_share.FAMILY.OUTCOME` of W_in: means over layers, exact rank."""
    shares: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        kind = (row["matrix"], row["rule"], row["quantity"])
        chosen = kind == ("mlp.W_in", "exact", "pre") and row["n"] >= MIN_REQUESTS
        if chosen and row["share"] is not None:
            shares.setdefault((row["family"], row["outcome"]), []).append(row["share"])
    columns: dict[str, float | None] = {}
    for family, outcome in product(FAMILIES, ("all", *OUTCOMES)):
        values = shares.get((family, outcome))
        name = f"null_share.{family}" if outcome == "all" else f"null_share.{family}.{outcome}"
        columns[name] = sum(values) / len(values) if values else None
    return columns


def final_measures(preset: Preset, arm: str) -> tuple[Measure, ...]:
    """All measures of a finished model of an arm."""
    n = preset.n_requests
    measures: tuple[Measure, ...] = (SafetyMeasure(n), FamilyMeasure(n), ClusterMeasure(n), UpdateMeasure(n))
    if arm in ("base", *METHODS):
        measures += attack_measures(preset)
    if arm in METHODS:
        measures += (LocalisationMeasure(n), ProbeMeasure(n), AnswerPositionMeasure(n))
    if arm in METHODS or (arm in MATCHED_CONTROLS and preset.thorough):
        measures += (UpdateProjectionMeasure(n, N_PROJECTION_DRAWS if preset.thorough else FEW_DRAWS),)
    if arm in CONSTRAINED_ARMS and preset.thorough:
        measures += (ConstrainedMeasure(n),)
    if arm in EXTRAPOLATED_ARMS:
        measures += (ExtrapolationMeasure(n),)
    return measures


def attack_measures(preset: Preset) -> tuple[Measure, ...]:
    """All measures of a model of another world than the study's own."""
    if preset.thorough:
        attacks = AttackMeasure(preset.n_requests, preset.n_attacked)
    else:
        attacks = AttackMeasure(preset.n_requests, preset.n_attacked, steps=4, candidates=16)
    return (attacks, DetectabilityMeasure(preset.n_requests))


def checkpoint_measures(preset: Preset, arm: str, *, early: bool = False) -> tuple[Measure, ...]:
    """Measures of the checkpoints before the last one.

    Args:
        preset: Sizes of the study.
        arm: Arm of the model.
        early: Whether the checkpoint is one of the many early ones (`Preset.extra_checkpoints`), whose
            updates are not measured.

    Returns:
        The measures.
    """
    n = preset.n_requests
    if arm in DOSE_ARMS:
        return (SafetyMeasure(n), ClusterMeasure(n))
    if arm in METHODS and preset.thorough:
        return (SafetyMeasure(n), ClusterMeasure(n), *(() if early else (UpdateMeasure(n),)))
    return (SafetyMeasure(n),)
