"""Measures that train or move the weights again: constrained fine-tuning and extrapolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from experiments.jain2024.sampled_measures import SampledMeasure
from makebreak.evaluation import evaluate_behaviour
from makebreak.mechanism import (
    constrained_finetuning_rows,
)
from makebreak.model_zoo import Measurement, Subject
from makebreak.models import extrapolate_weights
from makebreak.tables import as_dicts

EXTRAPOLATION_FACTORS = (0.0, 0.5, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0)
"""Factors α of the update in W + α ΔW."""


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
class ConstrainedMeasure(SampledMeasure):
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
class ExtrapolationMeasure(SampledMeasure):
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
