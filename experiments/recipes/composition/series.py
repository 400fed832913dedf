"""Presets that vary the training: a grid of doses, and a ladder from `mini` towards the set-up of the paper.

Every rung of the ladder has all changes of the rungs before it. The last steps to the paper, its block and
its number of training steps, are in `paper`. Rates are those of `mini` throughout, untuned: the checks of
behaviour (C1) say of each rung whether its models do what the comparison needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from experiments.recipes.composition.arms import CORE_ARMS, DOSE_ARMS, EVEN
from experiments.recipes.composition.preset import Preset
from experiments.recipes.composition.presets import EARLY_STEPS, MINI
from makebreak.models import MODEL_SIZES, ModelConfig

SEEDS = (0, 1, 2)
"""Pretraining seeds of every preset of this module."""
_WORLD = "mini"
_PAPER_WORLD = "jain2024"
_RATE_FACTOR, _STEP_FACTOR = 1 / 3, 5
"""Alignments of the paper are longer and at a smaller rate than those of `mini`."""


def dose_grid(start: Preset) -> Preset:
    """Every method and the remap control at five rates and four lengths, beside the arms of the claims.

    Args:
        start: Preset whose models, world and sizes are used.

    Returns:
        The preset; models are kept every five steps up to 100 beside those that are evenly spaced.
    """
    return replace(
        start,
        name="dose",
        worlds=(_WORLD,),
        seeds=SEEDS,
        arms=(*CORE_ARMS, *DOSE_ARMS),
        extra_checkpoints={_WORLD: EARLY_STEPS},
        attacked_worlds={},
    )


def ladder(start: Preset) -> Mapping[str, Preset]:
    """Six rungs, each of which changes one factor: mixture, schedule, depth, width, and world.

    Args:
        start: Preset of the second rung, which has the paper's mixture.

    Returns:
        Presets by name: `rung-even` (as many unsafe as safe requests), `rung-mixture` (the paper's mixture),
        `rung-schedule` (alignment at a third of the rate for five times the steps), `rung-depth` (6 blocks),
        `rung-width` (the paper's 192 dimensions and 6 heads) and `rung-world` (its four grammars, 30 letters
        and longer texts).
    """
    start = replace(start, worlds=(_WORLD,), seeds=SEEDS, arms=CORE_ARMS, attacked_worlds={})
    schedule = start.alignment_optimisation[_WORLD]
    slow = replace(
        start,
        rates={_WORLD: {name: _RATE_FACTOR * rate for name, rate in start.rates[_WORLD].items()}},
        alignment_optimisation={_WORLD: replace(schedule, steps=_STEP_FACTOR * schedule.steps)},
    )
    deep = replace(slow, model=replace(start.model, n_layers=MODEL_SIZES["jain"].n_layers))
    wide = replace(deep, model=_paper_width(deep.model))
    rungs = {
        "even": replace(start, mixture=EVEN),
        "mixture": start,
        "schedule": slow,
        "depth": deep,
        "width": wide,
        "world": _in_world(wide, _PAPER_WORLD),
    }
    return {f"rung-{name}": replace(rung, name=f"rung-{name}") for name, rung in rungs.items()}


def _paper_width(model: ModelConfig) -> ModelConfig:
    """The model with the widths and heads of the paper's."""
    paper = MODEL_SIZES["jain"]
    return replace(model, n_heads=paper.n_heads, d_model=paper.d_model, d_mlp=paper.d_mlp)


def _in_world(preset: Preset, world: str) -> Preset:
    """The preset with all settings of `mini` in another world."""
    by_world = (
        *("pretraining", "pretraining_optimisation", "alignment_optimisation"),
        *("rates", "scales", "weak_strength"),
    )
    settings = {name: {world: getattr(preset, name)[_WORLD]} for name in by_world if getattr(preset, name)}
    return replace(preset, worlds=(world,), failing={}, **settings)


SERIES = {"dose": dose_grid(MINI), **ladder(MINI)}
"""Presets by name."""
