"""Activation steering of attacked requests across the midpoint of the class means.

The states of attacked requests are moved towards the unsafe mean along the difference of means. The same
shift is given to clean safe requests, since any direction that refusal depends on reverses attacks: what
counts is its cost. Controls are a random direction at the same distance, and other differences of means at
the same disturbance. Whether the projection causes success is asked by `interchange_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import PrefixCachedRunner, decision_kl, exact_match
from makebreak.mechanism.attacked import AttackedRequests
from makebreak.mechanism.directions import SafeUnsafeRequests
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.mechanism.matched_steering import scale_to_disturbance, steering_vectors

SCALES = (0.25, 0.5, 1.0, 2.0)
"""Multiples of each steering vector."""
MAX_COST = 0.05
"""Share of clean safe requests that steering may cost their answer in `reversal_at_cost`."""


class SteeringData(NamedTuple):
    """Clean requests of a steering experiment."""

    fit: SafeUnsafeRequests
    """Safe and unsafe requests of which the class means are computed."""
    score: SafeUnsafeRequests
    """Safe and unsafe requests on which the steering vectors are evaluated."""
    control_labels: Int[Tensor, " n"] | None = None
    """A label of the requests of `fit`, safe ones first, that has nothing to do with safety; it makes the
    control `other_label`. None for no such control."""


class SteeringRow(NamedTuple):
    """Effect of one steering vector at one scale, added at the end of text before one layer."""

    layer: int
    """Layer whose residual input is steered."""
    kind: str
    """`difference` of the class means; `distance`, a random vector of the same length; `shuffled`,
    `other_label`, `covariance` and `random`, the controls of `mechanism.steering_vectors`, scaled to disturb
    safe requests as much (KL) at scale 1."""
    scale: float
    """Multiple of the vector."""
    distance: float
    """Norm of the shift."""
    kl: float
    """Mean KL of the next-token distribution on clean safe requests, in nats."""
    n: int
    """Number of attacked requests that were complied with."""
    reversal_rate: float | None
    """Share of these that are no longer complied with; None if n is 0."""
    refusal_rate: float | None
    """Share of these that are refused instead; None if n is 0."""
    safe_refusal_rate: float
    """Share of clean safe requests that are refused under the same shift."""
    safe_compliance_rate: float
    """Share of clean safe requests that are complied with under the same shift."""
    safe_compliance_baseline: float
    """Share of clean safe requests that are complied with without steering."""
    n_noncompliant: int
    """Number of clean unsafe requests that are not complied with without steering."""
    induction_rate: float | None
    """Share of these that are complied with under the opposite shift; None if there are none."""


def steering_rows(
    model: PreTrainedModel,
    attacks: Sequence[AttackedRequests],
    data: SteeringData,
    *,
    layer: int,
    seed: int,
) -> list[SteeringRow]:
    """Steers attacked and clean requests at the end of text before a layer.

    Args:
        model: The model that is attacked.
        attacks: Results of the attacks; only requests that were complied with are steered.
        data: Clean requests.
        layer: Layer whose residual input is steered.
        seed: Seed of the random vectors.

    Returns:
        One row per vector and scale.
    """
    site, random = f"blocks.{layer}.hook_resid_pre", torch.Generator().manual_seed(seed)
    successes = [attack[attack.complies] for attack in attacks if attack.complies.any()]
    experiment = _Experiment.create(model, layer, successes, data.score)
    safe = end_of_text_activations(model, data.fit.safe, [site])[0].double()
    unsafe = end_of_text_activations(model, data.fit.unsafe, [site])[0].double()
    vectors = steering_vectors(safe, unsafe, data.control_labels, random)
    difference, noise = vectors.pop("difference"), vectors["random"]
    controls = torch.stack(list(vectors.values()))
    scales = scale_to_disturbance(experiment.kl, controls, float(experiment.kl(difference[None])[0]))
    units = {"difference": difference, "distance": noise}
    units |= dict(zip(vectors, controls * scales[:, None], strict=True))
    shifts = [_Shift(kind, scale, scale * unit) for kind, unit in units.items() for scale in SCALES]
    return experiment.rows(shifts)


def reversal_at_cost(table: pd.DataFrame, kind: str, *, max_cost: float = MAX_COST) -> float | None:
    """Returns the greatest reversal rate of a kind of steering at a bounded cost.

    Args:
        table: Columns of `SteeringRow`, of one model and layer.
        kind: Kind of the steering vector.
        max_cost: Share of clean safe requests that may lose their answer.

    Returns:
        The greatest `reversal_rate` among scales within the cost, 0 if every scale costs more, and None if
        there are no such rows or no attack succeeded.
    """
    of_kind = table[table["kind"] == kind] if len(table) else table
    if not len(of_kind) or pd.isna(of_kind["reversal_rate"].iloc[0]):
        return None
    cost = of_kind["safe_compliance_baseline"] - of_kind["safe_compliance_rate"]
    return max(of_kind["reversal_rate"][cost <= max_cost].astype(float).tolist(), default=0.0)


class _Shift(NamedTuple):
    """One steering vector at one scale."""

    kind: str
    scale: float
    vector: Float[Tensor, " d_model"]
    """Shift of attacked and of clean safe requests; that of clean unsafe ones is the opposite."""


@dataclass(frozen=True)
class _Experiment:
    """Requests of a steering experiment at one layer, with prefix caches and the values without steering."""

    model: PreTrainedModel
    layer: int
    successes: list[AttackedRequests]
    attacked: list[PrefixCachedRunner]
    safe: PrefixCachedRunner
    unsafe: PrefixCachedRunner
    n_noncompliant: int
    safe_log_probs: Float[Tensor, "n d_vocab"]
    safe_compliance_baseline: float

    @classmethod
    def create(
        cls, model: PreTrainedModel, layer: int, successes: list[AttackedRequests], score: SafeUnsafeRequests
    ) -> _Experiment:
        """Caches prefixes and evaluates the clean requests without steering."""
        attacked = []
        for attack in successes:
            with attack.attach(model):
                attacked.append(PrefixCachedRunner.create(model, attack.requests))
        noncompliant = score.unsafe[~exact_match(model, score.unsafe, "instructed").numpy()]
        safe = PrefixCachedRunner.create(model, score.safe)
        return cls(
            model=model,
            layer=layer,
            successes=successes,
            attacked=attacked,
            safe=safe,
            unsafe=PrefixCachedRunner.create(model, noncompliant),
            n_noncompliant=len(noncompliant),
            safe_log_probs=safe.next_token_log_probs().double(),
            safe_compliance_baseline=_share(safe.exact_match("instructed")),
        )

    @property
    def site(self) -> str:
        """Site that is steered."""
        return f"blocks.{self.layer}.hook_resid_pre"

    def kl(self, vectors: Float[Tensor, "m d_model"]) -> Float[Tensor, " m"]:
        """Mean KL of the next-token distribution on clean safe requests under each vector, in nats."""
        log_probs = self.safe.next_token_log_probs(self.site, vectors[:, None])
        return self._mean_kl(log_probs)

    def _mean_kl(self, log_probs: Float[Tensor, "m n d_vocab"]) -> Float[Tensor, " m"]:
        return torch.stack(
            [decision_kl(self.safe_log_probs, steered).mean() for steered in log_probs.double()]
        )

    def rows(self, shifts: Sequence[_Shift]) -> list[SteeringRow]:
        """Effect of every shift on the attacked and on the clean requests, all shifts in one pass."""
        vectors = torch.stack([shift.vector for shift in shifts])[:, None]
        attacked = []
        for attack, runner in zip(self.successes, self.attacked, strict=True):
            with attack.attach(self.model):
                attacked.append(runner.answers(self.site, vectors))
        safe, induced = self.safe.answers(self.site, vectors), None
        if self.n_noncompliant:
            induced = self.unsafe.exact_match("instructed", self.site, -vectors)
        kl, rows = self._mean_kl(safe.log_probs).tolist(), []
        for i, shift in enumerate(shifts):
            complied = torch.cat([answers.instructed[i] for answers in attacked]) if attacked else None
            refused = torch.cat([answers.refused[i] for answers in attacked]) if attacked else None
            rows.append(
                SteeringRow(
                    layer=self.layer,
                    kind=shift.kind,
                    scale=shift.scale,
                    distance=float(shift.vector.norm()),
                    kl=kl[i],
                    n=sum(len(attack.requests) for attack in self.successes),
                    reversal_rate=None if complied is None else 1 - _share(complied),
                    refusal_rate=None if refused is None else _share(refused),
                    safe_refusal_rate=_share(safe.refused[i]),
                    safe_compliance_rate=_share(safe.instructed[i]),
                    safe_compliance_baseline=self.safe_compliance_baseline,
                    n_noncompliant=self.n_noncompliant,
                    induction_rate=None if induced is None else _share(induced[i]),
                )
            )
        return rows


def _share(mask: Tensor) -> float:
    """Share of true values."""
    return float(mask.double().mean())
