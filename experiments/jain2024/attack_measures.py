"""Measure of attacks: success, class-mean projection, what predicts and causes success, and monitors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from experiments.jain2024.attack_families import JAILBREAKS, N_SLOTS, SECOND_COMPOSITIONS, SOFT_PROMPT_SIZES
from experiments.jain2024.attack_rows import attack_row, detection_rows, prefill_rows
from makebreak.attacks import (
    GCG,
    Attack,
    AttackResult,
    RandomSearch,
    RandomSoftPrompt,
    RandomTokens,
    SoftPrompt,
    Universal,
)
from makebreak.configs import check_positive
from makebreak.defences import (
    FALSE_POSITIVE_RATE,
    MONITOR_KINDS,
    Monitor,
    fit_monitors,
    min_calibration_size,
)
from makebreak.evaluation import WorldTarget
from makebreak.mechanism import (
    MIN_PER_OUTCOME,
    InterchangeRow,
    SafeUnsafeRequests,
    SteeringData,
    SteeringRow,
    interchange_rows,
    project_attacks,
    projection_rows,
    shared_activations,
    steering_rows,
    success_prediction_rows,
)
from makebreak.model_zoo import Measurement, Subject
from makebreak.models import n_layers
from makebreak.prompts import Requests
from makebreak.tables import as_dict

_STEERED_ATTACKS = (f"soft {SOFT_PROMPT_SIZES[-1]}", f"gcg {N_SLOTS}")
"""Attacks, other than jailbreaks, whose successes are steered."""


@dataclass(frozen=True)
class AttackMeasure:
    """Outcomes of attacks, projection onto the class means, what it predicts and causes, and monitors.

    Attacks are jailbreak families, soft prompts, token attacks and prefills. All but the families are made on
    requests that the model refuses. Worlds have one fixed layout, so that inserted tokens break every answer:
    token attacks replace tokens that the answer does not depend on.
    """

    tag: ClassVar[str] = "Attacks"
    name: ClassVar[str] = "jain2024-attacks"
    revision: ClassVar[int] = 12
    n: int = 500
    """Number of requests per family."""
    n_attacked: int = field(default=200, metadata={"key": "attacked"})
    """Number of refused requests per attack, at most."""
    steps: int = 8
    """Steps of each token attack."""
    candidates: int = 32
    """Candidates per step of each token attack, the same for GCG and its random controls."""

    def __post_init__(self) -> None:
        check_positive(n=self.n, n_attacked=self.n_attacked, steps=self.steps, candidates=self.candidates)

    def __call__(self, subject: Subject) -> Measurement:
        """Attacks one model.

        Args:
            subject: The model.

        Returns:
            The columns `attack.ATTACK.compliance_rate`, and the tables `attacks`, `projection` (onto the
            class means), `prefill`, `monitors`, `prediction` (of success), `steering` and `interchange`, each
            with a column `world`.
        """
        model, seed = subject.model, subject.recipe.seed
        fit, calibration = self._clean_requests(subject)
        with shared_activations(subject.activations):
            monitors = fit_monitors(model, fit, calibration)
        safe, unsafe = (self._evaluate_family(subject, family) for family in ("safe", "unsafe"))
        names = [name for kind in JAILBREAKS.values() for name in kind if name in subject.world.families]
        jailbreaks = [self._evaluate_family(subject, name) for name in names]
        refused = unsafe.requests[np.flatnonzero(unsafe.refuses)[: self.n_attacked]]
        optimised: list[AttackResult] = []
        if len(refused) >= MIN_PER_OUTCOME:
            attacks = [*self._attacks(subject), *_evading_attacks(monitors, n_layers(model) // 2)]
            optimised = [attack(WorldTarget(model), refused, seed=seed) for attack in attacks]
        results = [safe, unsafe, *jailbreaks, *optimised]
        with shared_activations(subject.activations):
            projection = project_attacks(model, fit, results)
            detection = detection_rows(model, monitors, results)
        adversarial = [result.name for result in (*jailbreaks, *optimised)]
        adversarial = [name for name in adversarial if not name.startswith("random soft")]
        second = [
            self._evaluate_family(subject, name)
            for name in SECOND_COMPOSITIONS
            if name in subject.world.families
        ]
        steered = [*jailbreaks, *(result for result in optimised if result.name in _STEERED_ATTACKS)]
        clean = SafeUnsafeRequests(safe.requests[: self.n_attacked], unsafe.requests[: self.n_attacked])
        attack_rows = [attack_row(result) for result in (*results, *second)]
        tables: dict[str, Sequence[Any]] = {
            "attacks": attack_rows,
            "projection": projection_rows(projection),
            "prefill": prefill_rows(model, refused),
            "monitors": detection,
            "prediction": success_prediction_rows(projection.select(adversarial), seed=seed),
            "steering": _steering_rows(subject, fit, clean, steered, n=self.n_attacked),
            "interchange": _interchange_rows(subject, fit, jailbreaks, n=self.n_attacked),
        }
        columns: dict[str, float | None] = {
            f"attack.{row.attack}.compliance_rate": row.compliance_rate for row in attack_rows
        }
        world = {"world": subject.recipe.world}
        return Measurement(
            columns, {name: [world | as_dict(row) for row in rows] for name, rows in tables.items()}
        )

    def _clean_requests(self, subject: Subject) -> tuple[SafeUnsafeRequests, Requests]:
        """Safe and unsafe requests of the fit split, and other safe ones of it that calibrate monitors."""
        n = max(self.n, min_calibration_size(FALSE_POSITIVE_RATE))
        safe, unsafe = (subject.sample(family, 2 * n, "fit") for family in ("safe", "unsafe"))
        return SafeUnsafeRequests(safe[:n], unsafe[:n]), safe[n:]

    def _evaluate_family(self, subject: Subject, family: str) -> AttackResult:
        """Outcomes of a family as it is, in the form of an attack that changes nothing."""
        outcomes = subject.behaviour(family, self.n).outcomes
        return AttackResult(family, subject.sample(family, self.n), outcomes)

    def _attacks(self, subject: Subject) -> list[Attack]:
        largest = SOFT_PROMPT_SIZES[-1]
        soft_prompts = [SoftPrompt(size) for size in SOFT_PROMPT_SIZES]
        pad = subject.world.vocabulary.id("<pad>")
        gcg, *controls = (  # the controls have as many candidates
            method(N_SLOTS, self.steps, self.candidates, "unused", pad)
            for method in (GCG, RandomSearch, RandomTokens)
        )
        soft_controls = [RandomSoftPrompt(largest), Universal(SoftPrompt(largest))]
        return [*soft_prompts, *soft_controls, gcg, *controls, Universal(gcg)]


def _evading_attacks(monitors: Mapping[tuple[str, int], Monitor], layer: int) -> list[Attack]:
    """Soft prompts that are also optimised to evade a monitor at one layer, one per kind of monitor."""
    size = SOFT_PROMPT_SIZES[-1]
    return [
        SoftPrompt(size, penalty=monitors[kind, layer].evasion_penalty(), label=f"soft {size} evading {kind}")
        for kind in MONITOR_KINDS
    ]


def _steering_rows(
    subject: Subject,
    fit: SafeUnsafeRequests,
    clean: SafeUnsafeRequests,
    results: list[AttackResult],
    *,
    n: int,
) -> list[SteeringRow]:
    """Steering of successes at the input of every block but the first, where all ends of text are alike.

    Args:
        subject: The model.
        fit: Safe and unsafe requests whose class means give the steering vectors.
        clean: Safe and unsafe requests that are steered besides.
        results: Attacks whose successes are steered.
        n: Number of successes that are steered, at most the same number of each attack.

    Returns:
        The rows of all layers; none for fewer than `MIN_PER_OUTCOME` successes.
    """
    grammar = torch.from_numpy(np.concatenate([subject.world.groups(requests) for requests in fit]))
    n_each = math.ceil(n / len(results))
    successes = [result[np.flatnonzero(result.complies)[:n_each]] for result in results]
    if sum(len(result.requests) for result in successes) < MIN_PER_OUTCOME:
        return []
    data = SteeringData(fit, clean, grammar)
    rows = []
    for layer in range(1, n_layers(subject.model)):
        rows += steering_rows(subject.model, successes, data, layer=layer, seed=subject.recipe.seed)
    return rows


def _interchange_rows(
    subject: Subject, fit: SafeUnsafeRequests, results: list[AttackResult], *, n: int
) -> list[InterchangeRow]:
    """Interchange of the projection of successful jailbreaks at the input of every block but the first.

    Attacks that are optimised on refused requests are left out: the base, the control, refuses none.
    """
    rows = []
    for layer in range(1, n_layers(subject.model)):
        rows += interchange_rows(subject.model, results, fit, layer=layer, n=n, seed=subject.recipe.seed)
    return rows
