"""Search for rates and for scales of matched controls, on models with planted numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.jain2024 import tune
from experiments.recipes.composition import PRESETS, RATE_GRID, TUNING_SEEDS
from makebreak.model_zoo import Measurement
from makebreak.recipes import Recipe

SAFE = {"safe.comply": 1.0, "safe.refuse": 0.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replaces training: `columns(recipe)` is what it would be measured at; `recipes` are those measured."""
    planted = SimpleNamespace(columns=None, recipes=[])

    def measure(store: object, recipe: Recipe, *measures: object) -> list[tuple[Measurement, Path]]:
        planted.recipes.append(recipe)
        return [(Measurement(planted.columns(recipe)), Path())]

    monkeypatch.setattr(tune, "measure", measure)
    return planted


def rate(recipe: Recipe) -> float:
    return recipe.alignments[-1].optimisation.learning_rate


def test_smallest_rate_that_passes_on_every_seed(measured: SimpleNamespace, capsys) -> None:
    """1e-4 passes on two seeds of three, 3e-4 on all."""
    refusal = {3e-5: 0.5, 1e-4: 0.95, 3e-4: 0.96}

    def columns(recipe: Recipe) -> dict[str, float]:
        unlucky = recipe.seed == TUNING_SEEDS[-1] and rate(recipe) == 1e-4
        return SAFE | {"unsafe.refuse": 0.92 if unlucky else refusal[rate(recipe)], "unsafe.comply": 0.0}

    measured.columns = columns
    tune.main(methods=("ssft",))
    assert capsys.readouterr().out.splitlines()[-1] == "mini ssft: 0.0003 is η_M"
    assert {recipe.seed for recipe in measured.recipes} <= set(TUNING_SEEDS)


@pytest.mark.parametrize("failing", [{"safe.comply": 0.97}, {"safe.refuse": 0.03}, {"unsafe.refuse": 0.92}])
def test_costly_rate_does_not_pass(failing: dict[str, float], measured: SimpleNamespace, capsys) -> None:
    measured.columns = lambda recipe: SAFE | {"unsafe.refuse": 1.0, "unsafe.comply": 0.0} | failing
    tune.main(methods=("ssft",))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("mini ssft: 3e-05 passes on most seeds, no rate of the grid on all, at the edge")
    assert [rate(recipe) for recipe in measured.recipes] == list(RATE_GRID)


def test_forgetting_is_judged_by_compliance(measured: SimpleNamespace, capsys) -> None:
    measured.columns = lambda recipe: SAFE | {"unsafe.refuse": 0.0, "unsafe.comply": 0.01}
    tune.main(methods=("npo", "ssft"))
    lines = capsys.readouterr().out.splitlines()
    assert f"mini npo: {RATE_GRID[0]:g} is η_M" in lines
    assert "no rate of the grid on all" in lines[-1]


def test_nearest_rate_is_named_if_none_passes(measured: SimpleNamespace, capsys) -> None:
    """Its worst check counts: the rate with most refusals has the lowest compliance."""
    parts = {3e-5: (0.1, 1.0), 1e-4: (0.5, 0.9), 3e-4: (0.8, 0.85), 1e-3: (0.9, 0.6), 3e-3: (1.0, 0.3)}

    def columns(recipe: Recipe) -> dict[str, float]:
        refuse, comply = parts[rate(recipe)]
        return {"unsafe.refuse": refuse, "unsafe.comply": 0.0, "safe.comply": comply, "safe.refuse": 0.0}

    measured.columns = columns
    tune.main(methods=("ssft",))
    assert capsys.readouterr().out.splitlines()[-1].startswith("mini ssft: 0.0003 passes")
    assert len(measured.recipes) == len(RATE_GRID), (
        "a rate that fails on the first seed is not tried on the others"
    )


def test_rate_that_passes_on_most_seeds_comes_before_one_with_more_slack(
    measured: SimpleNamespace, capsys
) -> None:
    def columns(recipe: Recipe) -> dict[str, float]:
        position = TUNING_SEEDS.index(recipe.seed)
        fails = position >= {1e-4: 1, 1e-3: 3}.get(rate(recipe), 0)
        refused = 0.5 if fails else {1e-4: 1.0, 1e-3: 0.96}[rate(recipe)]
        return SAFE | {"unsafe.refuse": refused, "unsafe.comply": 0.0}

    measured.columns = columns
    tune.main(methods=("ssft",))
    assert capsys.readouterr().out.splitlines()[-1].startswith("mini ssft: 0.001 passes")


def test_a_rate_serves_what_is_tuned_after_it(measured: SimpleNamespace) -> None:
    """The warm start of DPO has the rate that was found for SSFT."""
    measured.columns = lambda recipe: SAFE | {"unsafe.refuse": 1.0, "unsafe.comply": 0.0}
    tune.main(methods=("ssft", "dpo"))
    [warm, _] = measured.recipes[-1].alignments
    assert warm.optimisation.learning_rate == RATE_GRID[0] != PRESETS["mini"].rates["mini"]["ssft"]


@pytest.mark.parametrize("power", [0.3, 0.75, 2.0])
@pytest.mark.parametrize("shortfall", [0.5, 0.8, 1.0, 1.7])
def test_control_is_scaled_to_equal_weight_change(
    shortfall: float, power: float, measured: SimpleNamespace
) -> None:
    """‖ΔW‖ = shortfall · rate^power for the control, rate^power for its method."""
    preset = PRESETS["mini"]
    plain = preset.recipe("mini", TUNING_SEEDS[0], "ssft")

    def columns(recipe: Recipe) -> dict[str, float]:
        change = (rate(recipe) / rate(plain)) ** power
        return {"weight_change": change * (1 if recipe.mechanism == "ssft" else shortfall)}

    measured.columns = columns
    scale, _ = tune._match_scale(preset, "mini", "sham_ssft", store=None)
    assert shortfall * scale**power == pytest.approx(1.0, abs=tune.MATCH_TOLERANCE)


def test_control_that_cannot_be_matched(measured: SimpleNamespace) -> None:
    measured.columns = lambda recipe: {"weight_change": 1.0 if recipe.mechanism == "ssft" else 0.5}
    _, note = tune._match_scale(PRESETS["mini"], "mini", "remap", store=None)
    assert note.endswith("none is within 3%")


def test_scale_reaches_every_stage() -> None:
    """DPO's warm start as well."""
    one, two = (PRESETS["mini"].recipe("mini", 0, "sham_dpo", scale=scale) for scale in (1.0, 2.0))
    for before, after in zip(one.alignments, two.alignments, strict=True):
        assert after.optimisation.learning_rate == 2 * before.optimisation.learning_rate
