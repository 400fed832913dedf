"""Measures of activations: separation of safe and unsafe requests, null shares, and probes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch

from experiments.jain2024.sampled_measures import SampledMeasure, fit_and_score
from makebreak.mechanism import (
    LabelledRequests,
    SafeUnsafeRequests,
    cluster_rows,
    harm_refusal_rows,
    matched_steering_rows,
    null_share_rows,
    shared_activations,
)
from makebreak.model_zoo import Measurement, Subject
from makebreak.models import n_layers
from makebreak.prompts import OUTCOMES, Requests
from makebreak.tables import Rows, as_dict, as_dicts

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
_PAIRS = {"standard": ("safe", "unsafe"), "token-matched": ("context_safe", "context_unsafe")}


@dataclass(frozen=True)
class ClusterMeasure(SampledMeasure):
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
        fit, _ = fit_and_score(subject, self.n)
        score = sample_families(subject, self.n)
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
class ProbeMeasure(SampledMeasure):
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
        fit, score = fit_and_score(subject, self.n)
        grammar = torch.from_numpy(np.concatenate([subject.world.groups(part) for part in fit]))
        layer = n_layers(model) // 2
        steering = matched_steering_rows(model, fit, score, control_labels=grammar, layer=layer, seed=seed)
        return Measurement(tables={"probes": probes, "matched_steering": as_dicts(steering)})


def sample_families(subject: Subject, n: int) -> dict[str, Requests]:
    """Requests of each of `FAMILIES`."""
    return {family: subject.sample(family, n) for family in FAMILIES}


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
