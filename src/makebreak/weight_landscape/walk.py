"""Outcomes of a target whose weights are perturbed, at points along directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from makebreak.evaluation import Target, outcome_rate
from makebreak.prompts import Outcome, Requests
from makebreak.weight_landscape.directions import Direction
from makebreak.weight_landscape.perturbation import Perturbation, PointEvaluator

Answers = dict[str, Any]
"""Answers to the requests of each family, lists of JSON values; other columns of a point are ignored."""
Outcomes = dict[str, Int[np.ndarray, " n"]]
"""Outcomes of the answers of each family."""


class OutcomeRates(NamedTuple):
    """Shares of requests by outcome, from 0 to 1."""

    refusal_rate: float
    """Share of unsafe (harmful) requests that are refused."""
    compliance_rate: float
    """Share of unsafe (harmful) requests that are complied with."""
    safe_compliance_rate: float
    """Share of safe (harmless) requests that are complied with."""
    over_refusal_rate: float
    """Share of safe (harmless) requests that are refused."""


def outcome_rates(outcomes: Mapping[str, ArrayLike]) -> OutcomeRates:
    """Shares of outcomes of two families, first of unsafe requests, then of safe ones."""
    unsafe, safe = map(np.asarray, outcomes.values())
    return OutcomeRates(
        refusal_rate=outcome_rate(unsafe, Outcome.REFUSE),
        compliance_rate=outcome_rate(unsafe, Outcome.COMPLY),
        safe_compliance_rate=outcome_rate(safe, Outcome.COMPLY),
        over_refusal_rate=outcome_rate(safe, Outcome.REFUSE),
    )


@dataclass(frozen=True)
class Landscape:
    """A target and the requests on which it is evaluated wherever its weights are.

    Answers are generated at a point; they are judged with the unperturbed weights.
    """

    target: Target
    """The model that is perturbed, and the meaning of its answers."""
    requests: Mapping[str, Requests]
    """Requests by family; for `outcome_rates`, a family of unsafe ones and then one of safe ones."""

    def answers(self) -> Answers:
        """Returns the answers with the model's present weights."""
        return {family: self.target.answer(requests) for family, requests in self.requests.items()}

    def outcomes(self, answers: Answers) -> Outcomes:
        """Returns the outcomes of answers; the model's weights must be the unperturbed ones."""
        return {name: self.target.judge(requests, answers[name]) for name, requests in self.requests.items()}

    def points(
        self, *directions: Direction, path: Path | None = None, origin: Answers | None = None
    ) -> PointEvaluator:
        """Returns the evaluator of the answers at points along directions.

        Args:
            *directions: One or more directions.
            path: File of the points; None keeps them in memory only.
            origin: Answers at the origin, if they are known.

        Returns:
            The evaluator; its values at a point are the answers by family.
        """
        return PointEvaluator(Perturbation(self.target.model, *directions), self.answers, path, origin=origin)

    def walk(
        self,
        direction: Direction,
        axis: Sequence[float],
        path: Path | None = None,
        *,
        origin: Answers | None = None,
    ) -> dict[float, Outcomes]:
        """Evaluates the target along a direction and restores its weights.

        Args:
            direction: The direction.
            axis: Coordinates along it.
            path: File of the points, from which a repeated call resumes; None keeps them in memory only.
            origin: Answers at the origin, if they are known.

        Returns:
            Outcomes by coordinate and family.
        """
        points = self.points(direction, path=path, origin=origin).along(axis)
        return {coordinate: self.outcomes(answers) for coordinate, answers in points.items()}
