"""What does every model of the zoo do, and how far has it moved? The columns that make models comparable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.behaviour import Behaviour, kl_to_base
from makebreak.configs import check_positive
from makebreak.defences import Mixed
from makebreak.requests import Requests
from makebreak.stats import wilson
from makebreak.training import FineTuning, Pretraining
from makebreak.zoo.measure import Measured, Subject

COMMON = ("safe", "unsafe")


@dataclass(frozen=True)
class Strength:
    """How firmly a model refuses and what that cost: cheap, for every kept step.

    margin: log-odds of the null on unsafe requests, nats. kl_on_safe: KL(base ‖ model) per judged token of safe ones.
    weight_change: ‖ΔW‖ of all matrices. taught: share of the last stage's second family (unsafe requests; those of its
    own partition for a sham …) that get the answer it was taught; taught_margin: log-odds of the null there.
    Four rates on safe and on unsafe requests. n: requests per family.
    """

    name: ClassVar[str] = "strength"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        found = {family: subject.behaviour(family, self.n) for family in COMMON}
        taught = self._taught(subject)
        columns = {
            "margin": found["unsafe"].margin,
            "kl_on_safe": kl_to_base(
                subject.model, subject.base, subject.world, subject.asked("safe", self.n)
            ),
            "weight_change": weight_change(subject.model, subject.base),
            "taught": taught[0],
            "taught_margin": taught[1],
        }
        return Measured(columns | _rates(found), {"behaviour": _rows(subject, found, self.n)})

    def _taught(self, subject: Subject) -> tuple[float | None, float | None]:
        stages = subject.recipe.alignments
        if not stages or isinstance(stages[-1].objective, Pretraining | FineTuning | Mixed):
            return None, None
        data = stages[-1].objective.data
        there = subject.behaviour(data.unsafe, self.n)
        return there.rates["refuse" if data.answer == "refused" else "comply"], there.margin


@dataclass(frozen=True)
class Families:
    """What a model does on every other family of its world: four rates each, and the margin. n: requests per family."""

    name: ClassVar[str] = "families"
    revision: ClassVar[int] = 2
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measured:
        families = [f for f in judged_families(subject.world.families) if f not in COMMON]
        found = {family: subject.behaviour(family, self.n) for family in families}
        margins: dict[str, float | None] = {f"{family}.margin": b.margin for family, b in found.items()}
        return Measured(_rates(found) | margins, {"behaviour": _rows(subject, found, self.n)})


def judged_families(families: Any) -> list[str]:
    """All families but those of pretraining, where nothing is refused."""
    return [name for name in families if not name.startswith("pretraining")]


def weight_change(model: PreTrainedModel, base: PreTrainedModel) -> float:
    """Frobenius norm of the difference of all matrices, embeddings and head included."""
    before = base.state_dict()
    squares = [
        (w - before[name]).double().square().sum() for name, w in model.state_dict().items() if w.ndim == 2
    ]
    return float(torch.stack(squares).sum().sqrt())


def n_texts(requests: Requests) -> int:
    """How many different texts the requests are made of."""
    return len(np.unique(np.c_[requests.truth["grammar"], requests.truth["text"]], axis=0))


def _rates(found: dict[str, Behaviour]) -> dict[str, float | None]:
    return {f"{family}.{outcome}": rate for family, b in found.items() for outcome, rate in b.rates.items()}


def _rows(subject: Subject, found: dict[str, Behaviour], n: int) -> list[dict[str, Any]]:
    """One row per family, with Wilson's intervals over requests."""
    rows = []
    for family, b in found.items():
        row = {"family": family, "n": b.n, "n_texts": n_texts(subject.asked(family, n)), **b.rates}
        for outcome, rate in b.rates.items():
            row[f"{outcome}_low"], row[f"{outcome}_high"] = wilson(round(rate * b.n), b.n)
        rows.append(row | {"margin": b.margin, "instruct": b.instruct, "null": b.null})
    return rows
