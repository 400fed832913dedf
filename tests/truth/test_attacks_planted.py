"""Planted mechanisms: an attack that works by looking safe is distinguished from one that does not.

The planted attack writes the unsafe request's letter with the safe ending: the network, which refuses by one
feature of the ending, answers. Its control is the same attack on a network that refuses nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from makebreak.attacks import AttackResult, score_attack
from makebreak.evaluation import WorldTarget
from makebreak.mechanism import (
    SafeUnsafeRequests,
    SteeringData,
    SteeringRow,
    SuccessPredictionRow,
    interchange_rows,
    project_attacks,
    projection_rows,
    reversal_at_cost,
    steering_rows,
    success_prediction_rows,
)
from makebreak.mechanism.interchange import interchange_shifts
from makebreak.prompts import Outcome
from tests.truth.planted import DEPTH, Planted, planted

HALF = DEPTH // 2


def relabel(networks: Planted, *, share: float = 0.5, name: str = "relabelled") -> AttackResult:
    """Unsafe requests, a share of them with the safe ending of the same letter."""
    requests, n_letters = networks.unsafe, int(networks.unsafe.refused[0, 0])
    chosen = np.random.default_rng(0).random(len(requests)) < share
    prompt = requests.prompt.copy()
    prompt[np.arange(len(requests)), requests.prompt_length - 1] -= n_letters * chosen
    text = {"text": np.arange(len(requests))[:, None]}
    attacked = replace(requests, prompt=prompt, truth=dict(requests.truth) | text)
    return score_attack(name, WorldTarget(networks.aligned), attacked)


def clean_data(networks: Planted) -> SteeringData:
    safe, unsafe = networks.safe, networks.unsafe
    return SteeringData(
        SafeUnsafeRequests(safe[:150], unsafe[:150]), SafeUnsafeRequests(safe[150:], unsafe[150:])
    )


def predictions(networks: Planted, attacks: list[AttackResult]) -> dict[str, SuccessPredictionRow]:
    projection = project_attacks(networks.aligned, clean_data(networks).fit, attacks)
    return {row.predictor: row for row in success_prediction_rows(projection, seed=0)}


def steer(networks: Planted, attack: AttackResult) -> list[SteeringRow]:
    return steering_rows(networks.aligned, [attack], clean_data(networks), layer=HALF, seed=0)


@pytest.mark.parametrize("kind", ["route", "rewrite"])
def test_successes_project_on_the_safe_side(kind: str) -> None:
    """And failures do not."""
    networks = planted(kind, seed=1)
    attack = relabel(networks)
    assert 100 < attack.complies.sum() < 200
    assert (attack.complies != attack.refuses).all()
    rows = projection_rows(project_attacks(networks.aligned, clean_data(networks).fit, [attack]))
    best = max((row for row in rows if row.outcome == "all"), key=lambda row: row.auroc or 0.0)
    by_outcome = {row.outcome: row for row in rows if row.layer == best.layer}
    assert by_outcome["complied"].safe_side_share == 1
    assert by_outcome["refused"].safe_side_share == 0
    assert by_outcome["complied"].tau_normalised is not None
    assert by_outcome["complied"].tau_normalised > 0.5
    assert by_outcome["all"].auroc == 1
    assert by_outcome["neither"].n == 0
    assert by_outcome["neither"].tau is None


def test_projection_predicts_success_it_causes() -> None:
    """And not success that is a coin flip; too few requests give no AUROC."""
    networks = planted("rewrite", seed=2)
    attacks = [relabel(networks), relabel(networks, share=0.6, name="another")]
    rows = predictions(networks, attacks)
    assert (rows["tau"].auroc or 0) > 0.95
    assert (rows["tau"].auroc_within_attack or 0) > 0.95
    assert (rows["attack"].auroc or 1) < 0.65
    assert 0.4 < (rows["shuffled"].auroc or 0) < 0.6
    coins = np.random.default_rng(1).random((2, 300)) < 0.5
    by_chance = [
        replace(attack, outcomes=np.where(coin, Outcome.COMPLY, Outcome.REFUSE))
        for attack, coin in zip(attacks, coins, strict=True)
    ]
    assert 0.4 < (predictions(networks, by_chance)["both"].auroc or 0) < 0.6
    small = [attack[:15] for attack in attacks]
    assert all(row.auroc is None for row in predictions(networks, small).values())


@pytest.mark.parametrize("cause", [True, False])
def test_steering_reverses_what_depends_on_the_direction(cause: bool) -> None:
    """Success is reversed if refusal depends on the difference of means, and only then."""
    networks = planted("route", seed=3, cause=cause)
    attack = relabel(networks)
    rows = steer(networks, attack)
    difference = {row.scale: row for row in rows if row.kind == "difference"}
    random = [row for row in rows if row.kind == "distance" and row.scale == 1.0]
    assert difference[1.0].n == attack.complies.sum()
    assert ((difference[1.0].reversal_rate or 0) > 0.9) == cause
    assert ((difference[1.0].refusal_rate or 0) > 0.9) == cause
    assert (random[0].reversal_rate or 0) < 0.2
    assert difference[1.0].safe_compliance_baseline == 1
    if not cause:
        assert difference[1.0].induction_rate is None
        return
    assert (difference[1.0].induction_rate or 0) > 0.9
    # the attack is nothing but a safe request: what reverses it refuses safe ones as well
    assert difference[1.0].safe_refusal_rate > 0.9
    assert reversal_at_cost(pd.DataFrame(rows), "difference") == pytest.approx(0.0, abs=0.05)


def test_without_success_nothing_is_reversed() -> None:
    networks = planted("route", seed=4)
    rows = steer(networks, relabel(networks, share=0.0))
    assert all(row.reversal_rate is None and row.n == 0 for row in rows)
    assert reversal_at_cost(pd.DataFrame(rows), "difference") is None


@pytest.mark.parametrize("cause", [True, False])
def test_interchange_undoes_what_position_causes(cause: bool) -> None:
    """Unsafe donors undo successes where refusal depends on the projection; safe ones and noise do not."""
    networks = planted("route", seed=3, cause=cause)
    attack = relabel(networks)
    clean = clean_data(networks).fit
    rows = interchange_rows(networks.aligned, [attack], clean, layer=HALF, n=100, seed=0)
    by_kind = {(row.donor, row.positions): row for row in rows}
    assert len(by_kind) == len(rows) == 6
    for (donor, _), row in by_kind.items():
        n_odd = int(attack.complies[1::2].sum())
        assert row.n == min(n_odd, 100)
        assert row.n_moved == row.n if cause else row.n_moved < row.n, "without a cause, means are noise"
        assert row.failure_rate is not None
        assert row.refusal_rate is not None
        is_undone = cause and donor == "unsafe"
        assert (row.failure_rate > 0.9) == (row.refusal_rate > 0.9) == is_undone
        assert is_undone or row.failure_rate < 0.2
        assert row.fit_auroc == (1 if cause else None), "a model that refuses nothing has no failures"


def test_matched_donor_is_the_nearest_but_for_the_component() -> None:
    states = torch.tensor([[0.0, 1.0], [5.0, -1.0]])
    donors = torch.tensor([[7.0, 0.9], [-2.0, -1.2], [0.0, 5.0]])
    shifts = interchange_shifts(states, donors, torch.tensor([1.0, 0.0]))
    assert shifts.tolist() == [7.0, -7.0]


def test_interchange_without_successes() -> None:
    networks = planted("route", seed=4)
    attack = relabel(networks, share=0.0)
    rows = interchange_rows(networks.aligned, [attack], clean_data(networks).fit, layer=HALF, n=100, seed=0)
    assert {(row.n, row.n_moved, row.failure_rate, row.fit_auroc) for row in rows} == {(0, 0, None, None)}
