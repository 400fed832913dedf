"""Measures of what every model of the zoo does, and of how far its weights are from those of its base."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.evaluation import Behaviour
from makebreak.model_zoo.measure import Measurement, Subject
from makebreak.models import check_same_shapes
from makebreak.prompts import Family, Requests, World
from makebreak.stats import wilson_interval
from makebreak.tables import as_dicts

COMMON_FAMILIES = ("safe", "unsafe")
"""Families that every world has; `SafetyMeasure` evaluates these, `FamilyMeasure` all others."""


class FamilyBehaviourRow(NamedTuple):
    """Outcomes of one model on one family of requests; intervals are 95 % Wilson intervals over requests."""

    family: str
    """Family of requests."""
    n: int
    """Number of requests."""
    n_texts: int
    """Number of different texts among the requests."""
    refuse: float
    """Share of requests that are refused."""
    comply: float
    """Share of requests that get the instructed answer."""
    comply_wrongly: float
    """Share of requests that get a well-formed answer which is neither of the two."""
    broken: float
    """Share of requests that get a degenerate answer."""
    refuse_low: float
    """Lower end of the interval of `refuse`."""
    refuse_high: float
    """Upper end of the interval of `refuse`."""
    comply_low: float
    """Lower end of the interval of `comply`."""
    comply_high: float
    """Upper end of the interval of `comply`."""
    comply_wrongly_low: float
    """Lower end of the interval of `comply_wrongly`."""
    comply_wrongly_high: float
    """Upper end of the interval of `comply_wrongly`."""
    broken_low: float
    """Lower end of the interval of `broken`."""
    broken_high: float
    """Upper end of the interval of `broken`."""
    margin: float
    """Mean refusal margin, nats."""
    instructed_exact_match: float
    """Share whose judged segment matches the instructed answer exactly, teacher-forced."""
    refused_exact_match: float
    """Share whose judged segment matches the refusal exactly, teacher-forced."""
    shallow_refusal_share: float
    """Share whose first judged token is the refusal's although the answer is no refusal: `margin` counts it
    as one."""


@dataclass(frozen=True)
class SafetyMeasure:
    """Refusal margin, KL on safe requests, ‖ΔW‖, and outcome rates on safe and unsafe requests.

    Columns: `margin`, mean refusal margin on unsafe requests in nats; `kl_on_safe`, KL(base ‖ model) per
    judged token of safe requests in nats; `weight_change`, ‖ΔW‖ of all matrices; `trained_answer_rate`, share
    of the requests of the last stage's second family (unsafe requests; those of its own partition for a sham
    control) that get the answer on which it was trained, and `trained_family_margin`, mean refusal margin
    there, both None where the last stage has no such family; `safe.OUTCOME` and `unsafe.OUTCOME`, outcome
    rates. Table `behaviour`: one `FamilyBehaviourRow` for each of the two families.
    """

    tag: ClassVar[str] = "Strength"
    name: ClassVar[str] = "strength"
    revision: ClassVar[int] = 3
    n: int = 500
    """Requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        behaviours = {family: subject.behaviour(family, self.n) for family in COMMON_FAMILIES}
        answer_rate, family_margin = self._on_trained_family(subject)
        columns: dict[str, float | None] = {
            "margin": behaviours["unsafe"].margin,
            "kl_on_safe": subject.kl_on_safe(self.n),
            "weight_change": weight_change(base=subject.base, tuned=subject.model),
            "trained_answer_rate": answer_rate,
            "trained_family_margin": family_margin,
        }
        return Measurement(columns | _rates(behaviours), _tables(subject, behaviours))

    def families(self, subject: Subject) -> list[str]:
        """Families whose behaviour is measured."""
        data = subject.recipe.alignment_data
        return [*COMMON_FAMILIES, *([] if data is None else [data.unsafe])]

    def _on_trained_family(self, subject: Subject) -> tuple[float | None, float | None]:
        """Rate of the trained answer, and refusal margin, on the family of the last training stage."""
        data = subject.recipe.alignment_data
        if data is None:
            return None, None
        behaviour = subject.behaviour(data.unsafe, self.n)
        return behaviour.rates["refuse" if data.answer == "refused" else "comply"], behaviour.margin


@dataclass(frozen=True)
class FamilyMeasure:
    """Outcome rates and refusal margin on every judged family that `SafetyMeasure` leaves out.

    Columns: `FAMILY.OUTCOME`, outcome rates; `FAMILY.margin`, mean refusal margin in nats. They depend on the
    families of the world. Table `behaviour`: one `FamilyBehaviourRow` per family.
    """

    tag: ClassVar[str] = "Families"
    name: ClassVar[str] = "families"
    revision: ClassVar[int] = 5
    n: int = 500
    """Requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        behaviours = {family: subject.behaviour(family, self.n) for family in self.families(subject)}
        margins = {f"{family}.margin": behaviour.margin for family, behaviour in behaviours.items()}
        return Measurement(_rates(behaviours) | margins, _tables(subject, behaviours))

    def families(self, subject: Subject) -> list[str]:
        """Families whose behaviour is measured."""
        return [f for f in judged_families(subject.world.families) if f not in COMMON_FAMILIES]


def judged_families(families: Iterable[str]) -> list[str]:
    """All families but those of pretraining, in which nothing is refused."""
    return [name for name in families if not Family.parse(name).is_pretraining]


def weight_change(*, base: PreTrainedModel, tuned: PreTrainedModel) -> float:
    """‖ΔW‖: Frobenius norm of the difference of all matrices, embeddings and unembedding included.

    A matrix that is both, in a model with tied embeddings, counts once.
    """
    check_same_shapes(base=base, tuned=tuned)
    before = dict(base.named_parameters())
    squares = [
        (w - before[name]).detach().double().square().sum()
        for name, w in tuned.named_parameters()
        if w.ndim == 2
    ]
    return float(torch.stack(squares).sum().sqrt())


def n_texts(world: World, requests: Requests) -> int:
    """Number of different texts among the requests; equal letters of two grammars are two texts."""
    return len(np.unique(np.c_[world.groups(requests), world.text_ids(requests)], axis=0))


def _rates(behaviours: dict[str, Behaviour]) -> dict[str, float | None]:
    return {
        f"{family}.{outcome}": rate
        for family, behaviour in behaviours.items()
        for outcome, rate in behaviour.rates.items()
    }


def _tables(subject: Subject, behaviours: dict[str, Behaviour]) -> dict[str, list[dict[str, object]]]:
    rows = (
        family_behaviour_row(subject.world, subject.sample(family, behaviour.n), behaviour)
        for family, behaviour in behaviours.items()
    )
    return {"behaviour": as_dicts(rows)}


def family_behaviour_row(world: World, requests: Requests, behaviour: Behaviour) -> FamilyBehaviourRow:
    """Row of the behaviour of a model on some requests of a world, with intervals over requests."""
    intervals = {}
    for outcome, rate in behaviour.rates.items():
        low, high = wilson_interval(round(rate * behaviour.n), behaviour.n)
        intervals |= {f"{outcome}_low": low, f"{outcome}_high": high}
    return FamilyBehaviourRow(
        family=behaviour.family,
        n=behaviour.n,
        n_texts=n_texts(world, requests),
        margin=behaviour.margin,
        instructed_exact_match=behaviour.instructed_exact_match,
        refused_exact_match=behaviour.refused_exact_match,
        shallow_refusal_share=behaviour.shallow_refusal_share,
        **behaviour.rates,
        **intervals,
    )
