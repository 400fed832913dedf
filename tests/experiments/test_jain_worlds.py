"""Checks of worlds, and arms that differ from their method exactly where they say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from experiments.jain2024.worlds import detectability_tables
from experiments.recipes.composition import (
    ARMS,
    CORE_ARMS,
    DOSE_ARMS,
    EVEN,
    FACTOR_ARMS,
    MATCHED_CONTROLS,
    OBJECTIVES,
    PRESETS,
    PUBLISHED_ARMS,
)
from experiments.recipes.learnability import LabelAccuracy, check_learnable
from makebreak.prompts import load_world
from makebreak.recipes import Alignment
from makebreak.store import Store
from makebreak.studies import Inputs
from makebreak.training import DPO, SSFT, Optimisation, Pretraining

SMOKE = PRESETS["smoke"]


def test_world_that_cannot_be_learnt(tmp_path: Path) -> None:
    short = replace(SMOKE, gate={"hidden": Optimisation(2, 1e-3, batch_size=4)})
    with pytest.raises(ValueError, match="world 'hidden' cannot be learnt by this model") as stopped:
        check_learnable(short, "hidden", Store(tmp_path))
    assert "\n" not in str(stopped.value)
    assert "expected 0.95 or more" in str(stopped.value)
    assert check_learnable(short, "mini", Store(tmp_path)) is None, "a world without a gate"


@pytest.mark.parametrize(("knows", "expected"), [(True, 1.0), (False, 0.0)])
def test_label_accuracy_of_planted_models(
    knows: bool, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that names every label, and one that always names grammar 1's safe text."""
    world = load_world("hidden")
    requests = {f: world.sample(f, 50, seed=0) for f in ("safe_on_safe_branch", "unsafe_on_unsafe_branch")}
    label = {
        tuple(row): name
        for r in requests.values()
        for row, name in zip(r.prompt.tolist(), r.truth["label"], strict=True)
    }

    def forward(_: None, input_ids: torch.Tensor) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, len(world.vocabulary))
        for row, ids in enumerate(input_ids.tolist()):
            logits[row, :, label[tuple(ids)] if knows else world.letter_ids[1]] = 1.0
            logits[row, :, world.vocabulary.id("<eot>")] = 2.0  # likelier than any label, and none
        return SimpleNamespace(logits=logits)

    monkeypatch.setattr("experiments.recipes.learnability.forward", forward)
    subject = SimpleNamespace(model=None, sample=lambda family, n: requests[family])
    assert LabelAccuracy(50)(subject).columns["label"] == expected


def test_detectability_of_a_hidden_branch(tmp_path: Path) -> None:
    inputs = Inputs((), (), {"world": "hidden", "n": 400}, tmp_path, Store(tmp_path))
    table = pd.DataFrame(detectability_tables(inputs)["detectability"])
    assert set(table.features) == {"text", "tasks", "both"}
    matched = table[table.family == "context_unsafe"]
    assert matched.auroc.between(0.4, 0.6).all(), "hidden from every classifier where tasks are matched"
    assert table[table.family == "unsafe"].query("features == 'tasks'").auroc.min() > 0.55, (
        "tasks alone are informative, as documented"
    )


@pytest.mark.parametrize("arm", ARMS)
def test_arm_differs_from_its_method_as_stated(arm: str) -> None:
    preset = PRESETS["all"]
    recipe, spec = preset.recipe("mini", 0, arm), ARMS[arm]
    assert recipe.pretraining.family == spec.requests
    assert recipe.base.alignments == ()
    if spec.method is None:
        assert recipe == recipe.base
        return
    last = recipe.alignments[-1]
    steps = spec.steps or preset.alignment_optimisation["mini"].steps
    assert sum(stage.optimisation.steps for stage in recipe.alignments) == steps
    if spec.method == "continued":
        assert isinstance(last.objective, Pretraining)
        return
    objective = spec.objective or OBJECTIVES[spec.method]
    assert last.objective == replace(objective, data=preset.mixture.of(objective, spec.data))
    if not spec.weak:
        multiple = spec.strength * preset.scales["mini"].get(arm, 1.0)
        rate = spec.rate or preset.rates["mini"][spec.method]
        assert last.optimisation.learning_rate == pytest.approx(multiple * rate)
    weight_decay = 1e-4 if spec.weight_decay is None else spec.weight_decay
    assert last.optimisation.weight_decay == weight_decay
    assert (last.lora is not None) == spec.lora
    warm = isinstance(last.objective, DPO) and spec.warm
    assert [type(stage.objective) for stage in recipe.alignments[:-1]] == [SSFT] * warm


@pytest.mark.parametrize(("control", "method"), MATCHED_CONTROLS.items())
def test_control_differs_in_data_and_rate_alone(control: str, method: str) -> None:
    preset = PRESETS["mini"]
    one, other = preset.recipe("mini", 0, method), preset.recipe("mini", 0, control)
    scale = preset.scales["mini"][control]
    for stage, changed in zip(one.alignments, other.alignments, strict=True):
        assert changed.objective.data != stage.objective.data
        rate = pytest.approx(scale * stage.optimisation.learning_rate)
        assert changed.optimisation.learning_rate == rate
        same = replace(changed.optimisation, learning_rate=stage.optimisation.learning_rate)
        assert (
            replace(stage, optimisation=same, objective=replace(changed.objective, data=stage.objective.data))
            == stage
        )


def shares(stage: Alignment, size: int = 100) -> dict[str, int]:
    """Rows of each family in a batch."""
    groups = stage.objective.alignment_data.requests(load_world("mini"), size=size, step=0, seed=1000)
    return {requests.family: len(requests) for requests, _ in groups}


def test_mixture_of_the_paper() -> None:
    """SSFT and its controls .8 safe, methods of pairs .5; a fifth of the unsafe ones in the second pair."""
    preset = PRESETS["mini"]
    second = "second_composition_unsafe"
    assert shares(preset.recipe("mini", 0, "ssft").alignments[0]) == {"safe": 80, "unsafe": 16, second: 4}
    warm, dpo = preset.recipe("mini", 0, "dpo").alignments
    assert shares(warm) == {"safe": 80, "unsafe": 16, second: 4}
    assert shares(dpo) == {"safe": 50, "unsafe": 40, second: 10}
    [unlearning] = preset.recipe("mini", 0, "unlearning").alignments
    assert shares(unlearning) == shares(dpo)
    for control in MATCHED_CONTROLS:
        counts = [sorted(shares(stage).values()) for stage in preset.recipe("mini", 0, control).alignments]
        method = preset.recipe("mini", 0, MATCHED_CONTROLS[control]).alignments
        assert counts == [sorted(shares(stage).values()) for stage in method]
        families = [
            family for stage in preset.recipe("mini", 0, control).alignments for family in shares(stage)
        ]
        assert not {"unsafe", second} & set(families)


def test_even_mixture_is_the_plain_data() -> None:
    """Half of the rows safe, none judged on the second output: the data that other studies train on."""
    recipe = replace(PRESETS["mini"], mixture=EVEN).recipe("mini", 0, "ssft")
    assert recipe.alignments[0].objective == SSFT()


def test_dose_grid_has_every_rate_and_length() -> None:
    preset = PRESETS["dose"]
    doses = []
    for arm in DOSE_ARMS:
        stages = preset.recipe("mini", 0, arm).alignments
        optimisation = stages[-1].optimisation
        steps = sum(stage.optimisation.steps for stage in stages)
        doses.append((">".join(s.objective.describe() for s in stages), optimisation.learning_rate, steps))
        assert {stage.optimisation.learning_rate for stage in stages} == {optimisation.learning_rate}
        assert optimisation.checkpoint_steps >= set(range(5, min(101, optimisation.steps), 5))
    methods, rates, lengths = (set(values) for values in zip(*doses, strict=True))
    assert methods == {"ssft", "ssft>dpo+nll", "unlearning", "ssft:remapped_unsafe"}
    assert len(set(doses)) == len(doses) == len(methods) * len(rates) * len(lengths) == 80
    assert preset.recipe("mini", 0, "ssft") != preset.recipe("mini", 0, "ssft_small")


LADDER = [name for name in PRESETS if name.startswith("rung-")]


@pytest.mark.parametrize(("lower", "upper"), list(pairwise(LADDER)))
def test_rung_changes_one_factor(lower: str, upper: str) -> None:
    """What differs between the recipes of two rungs is what the upper one is named for."""
    one, other = (PRESETS[name].recipe(PRESETS[name].worlds[0], 0, "ssft") for name in (lower, upper))
    before, after = one.alignments[0], other.alignments[0]
    changes = {
        "mixture": before.objective != after.objective,
        "schedule": before.optimisation != after.optimisation,
        "depth": one.model.n_layers != other.model.n_layers,
        "width": one.model.d_model != other.model.d_model,
        "world": one.world != other.world,
    }
    assert [factor for factor, changed in changes.items() if changed] == [upper.removeprefix("rung-")]
    assert one.optimisation == other.optimisation
    assert one.pretraining == other.pretraining


def test_ladder_begins_at_mini() -> None:
    assert LADDER[0] == "rung-even"
    for arm in CORE_ARMS:
        assert PRESETS["rung-mixture"].recipe("mini", 0, arm) == PRESETS["mini"].recipe("mini", 0, arm)
    top = PRESETS[LADDER[-1]].recipe("jain2024", 0, "ssft")
    assert top.model == PRESETS["paper"].model


def test_weak_model_is_between_both_rates() -> None:
    preset = PRESETS["mini"]
    small, weak, full = (
        preset.recipe("mini", 0, arm).alignments[0].optimisation.learning_rate
        for arm in ("ssft_small", "ssft_weak", "ssft")
    )
    assert small < weak < full


def test_weight_decays() -> None:
    preset = PRESETS["all"]
    decays = {
        preset.recipe("mini", 0, arm).alignments[0].optimisation.weight_decay
        for arm in preset.arms
        if arm.startswith(("ssft_decay", "ssft_no_decay"))
    }
    assert decays == {0.0, 0.01, 0.1, 1.0}


def test_small_has_all_arms_but_factors() -> None:
    assert set(PRESETS["small"].arms) | set(FACTOR_ARMS) == set(PRESETS["all"].arms)
    assert set(PRESETS["all"].arms) == set(ARMS) - {*DOSE_ARMS, *PUBLISHED_ARMS}
    assert not set(PRESETS["small"].arms) & set(FACTOR_ARMS)
    assert set(PRESETS["small"].arms) >= {
        *CORE_ARMS,
        *MATCHED_CONTROLS,
        *OBJECTIVES,
        *(f"{method}_small" for method in OBJECTIVES),
    }


@pytest.mark.parametrize("arm", CORE_ARMS)
def test_models_of_mini_are_those_of_small(arm: str) -> None:
    """In its own world, `small` keeps more steps of the methods, and is trained in the same way."""
    mini, small = PRESETS["mini"], PRESETS["small"]
    assert mini.recipe("hidden", 0, arm) == small.recipe("hidden", 0, arm)
    kept = replace(small, extra_checkpoints=mini.extra_checkpoints)
    assert mini.recipe("mini", 0, arm) == kept.recipe("mini", 0, arm)
    assert mini.other_worlds("mini") == {}, "the other world is attacked in a run of its own"


@pytest.mark.parametrize("name", PRESETS)
def test_arms_use_families_of_their_worlds(name: str) -> None:
    preset = PRESETS[name]
    for world in preset.worlds:
        known = load_world(world).families
        for arm in preset.arms:
            recipe = preset.recipe(world, 0, arm)
            assert recipe.pretraining.family in known, (world, arm)
            for stage in recipe.alignments:
                objective = stage.objective
                if isinstance(objective, Pretraining):
                    families = {objective.family}
                else:
                    families = {objective.data.safe, objective.data.unsafe}
                assert families <= set(known), (world, arm)
