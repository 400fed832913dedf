"""Measures of the mechanism of safety with models on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.attacks import SoftPrompt, score_attack
from makebreak.evaluation import WorldTarget, exact_outcomes
from makebreak.mechanism import (
    ChangedRequests,
    LabelledRequests,
    SafeUnsafeRequests,
    SteeringData,
    ablate_weights,
    activation_patching_rows,
    cluster_means,
    cluster_rows,
    compare,
    constrained_finetuning_rows,
    direction_rows,
    end_of_text_activations,
    harm_refusal_rows,
    identify_mechanism,
    layer_fisher,
    localisation_rows,
    matched_steering_rows,
    normalised_tau,
    null_share_rows,
    preactivation_rows,
    project_attacks,
    projection_rows,
    read_gain_rows,
    refusal_direction,
    refusal_rank_rows,
    sensitivity_rows,
    steering_rows,
    update_energy_rows,
    update_rows,
)
from makebreak.prompts import Outcome
from makebreak.training import SSFT, Optimisation
from tests.device.both import assert_same_on
from tests.training.short_runs import WORLD, fresh, network

SAFE, UNSAFE = (WORLD.sample(family, 24, seed=1000) for family in ("safe", "unsafe"))
FIT, SCORE = (SafeUnsafeRequests(SAFE[rows], UNSAFE[rows]) for rows in (slice(0, 12), slice(12, 24)))
N_DEFINED = 8  # points of an energy curve below the rank of the inputs; beyond, its directions are arbitrary
FAMILIES = {"safe": SCORE.safe, "unsafe": SCORE.unsafe}
ALIGNED, BASE, OTHER = (network(seed).eval() for seed in (1, 2, 3))

LONG = ("compare", "directions", "refusal rank", "matched steering")  # many passes; their parts are tested

Measure = Callable[[PreTrainedModel, PreTrainedModel], Any]
MEASURES: dict[str, Measure] = {
    "clusters": lambda new, old: cluster_rows(new, FIT, {"score": SCORE}, n_groups=2, seed=0),
    "class means": lambda new, old: cluster_means(new, FIT, 2),
    "normalised tau": lambda new, old: normalised_tau(
        new, dict(enumerate(cluster_means(new, FIT, 2))), UNSAFE
    ),
    "end of text": lambda new, old: end_of_text_activations(new, SAFE, ["blocks.1.hook_mlp_out"]),
    "directions": lambda new, old: direction_rows(new, FIT, SCORE, seed=0),
    "refusal direction": lambda new, old: refusal_direction(new, FIT, 1),
    "refusal rank": lambda new, old: refusal_rank_rows(new, FIT, SCORE.unsafe, max_directions=2, seed=0),
    "ablated weights": lambda new, old: exact_outcomes(ablate_weights(new, torch.eye(32)[:, :2]), UNSAFE),
    "matched steering": lambda new, old: matched_steering_rows(new, FIT, SCORE, layer=1, seed=0),
    "mechanism": lambda new, old: identify_mechanism(base=old, tuned=new, unsafe=UNSAFE, safe=SAFE),
    "fisher": lambda new, old: [f.fisher for f in layer_fisher(new, SCORE.unsafe, n_samples=2, seed=0)],
    "sensitivity": lambda new, old: sensitivity_rows(FAMILIES, base=old, tuned=new),
    "preactivations": lambda new, old: preactivation_rows(FAMILIES, base=old, tuned=new),
    "update energy": lambda new, old: update_energy_rows(FAMILIES, SAFE, base=old, tuned=new)[:N_DEFINED],
    "updates": lambda new, old: update_rows(base=old, tuned=new, other_base=OTHER.to(old.device), seed=0),
    "read gain": lambda new, old: read_gain_rows(FAMILIES, base=old, tuned=new),
    "activation patching": lambda new, old: activation_patching_rows(UNSAFE[:4], base=old, tuned=new),
    "compare": lambda new, old: compare(
        FAMILIES, base=old, tuned=new, changed_requests=ChangedRequests(UNSAFE), seed=0
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in MEASURES])
def test_measures(device: torch.device, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makebreak.mechanism.matched_steering.N_BISECTIONS", 1)
    assert_same_on(device, MEASURES[name], ALIGNED, BASE)


def test_localisation(device: torch.device) -> None:
    models = [fresh(n_layers=1).eval() for _ in range(2)]
    models[1].get_parameter("transformer.h.0.mlp.c_fc.weight").data.mul_(1.5)
    assert_same_on(device, lambda new, old: localisation_rows(UNSAFE, base=old, tuned=new, seed=0), *models)


def test_base_on_the_cpu(device: torch.device) -> None:
    """The measures of weights compare a model on an accelerator with a base on the CPU."""

    def measures(model: PreTrainedModel) -> Any:
        base, outcomes = BASE, {"unsafe": exact_outcomes(model, UNSAFE)}
        return (
            update_rows(base=base, tuned=model, seed=0),
            null_share_rows(
                {"unsafe": UNSAFE}, outcomes, base=base, tuned=model, other_base=OTHER.cpu(), seed=0
            ),
            preactivation_rows(FAMILIES, base=base, tuned=model),
            identify_mechanism(base=base, tuned=model, unsafe=UNSAFE),
        )

    assert_same_on(device, measures, ALIGNED)


def test_harm_and_refusal(device: torch.device) -> None:
    families = {
        name: LabelledRequests(requests, np.arange(len(requests)) % 3 == 0)
        for name, requests in (("safe", SAFE), ("unsafe", UNSAFE))
    }
    assert_same_on(device, lambda model: harm_refusal_rows(model, families, seed=0), ALIGNED)


def test_soft_prompts_are_projected(device: torch.device) -> None:
    def measures(model: PreTrainedModel) -> Any:
        attack = SoftPrompt(2, 2)(WorldTarget(model), UNSAFE, seed=0)
        projection = project_attacks(model, FIT, [attack])
        return projection.tau, projection_rows(projection)

    assert_same_on(device, measures, ALIGNED)


@pytest.mark.slow
def test_attacked_requests_are_steered(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makebreak.mechanism.matched_steering.N_BISECTIONS", 1)
    monkeypatch.setattr("makebreak.mechanism.matched_steering.MAX_SCALE", 2)
    monkeypatch.setattr("makebreak.mechanism.steering.SCALES", (1.0,))

    def rows(model: PreTrainedModel) -> Any:
        attack = score_attack("as if all complied", WorldTarget(model), UNSAFE[:6])
        attack = replace(attack, outcomes=np.full(6, Outcome.COMPLY))
        return steering_rows(model, [attack], SteeringData(FIT, SCORE), layer=1, seed=0)

    assert_same_on(device, rows, ALIGNED)


@pytest.mark.slow
def test_constrained_fine_tuning(device: torch.device) -> None:
    score = {family: WORLD.sample(family, 8, seed=1000, split="score") for family in ("safe", "unsafe")}
    optimisation = Optimisation(2, 1e-2, batch_size=4, checkpoints=1)
    assert_same_on(
        device,
        lambda base: constrained_finetuning_rows(SSFT(), optimisation, WORLD, score, base=base, seed=1000),
        fresh(n_layers=1).eval(),
    )
