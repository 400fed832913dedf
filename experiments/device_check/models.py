"""Check of a thousand bases and a thousand aligned models, trained in stacks and measured from a store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.device_check.checks import Result, Setting
from experiments.recipes.composition import PRESETS
from makebreak.model_zoo import SafetyMeasure, measure_all
from makebreak.recipes import Engine, Recipe, build_all
from makebreak.store import Store

FIRST_SEED = 1000
N_MODELS = 1000
_SECONDS = 200.0
_STACK = 250
"""Models that are made at once; four times as many are asked for."""


def thousand_models(setting: Setting) -> Iterator[Result]:
    """Seconds for 1,000 bases and 1,000 SSFT models at `mini`, made, stored and measured."""
    preset = PRESETS["smoke" if setting.quick else "mini"]
    n_all, n_first = (4, 2) if setting.quick else (N_MODELS, _STACK)
    measure = SafetyMeasure(preset.n_requests)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        recipes = [_recipe(preset.name, setting.device, FIRST_SEED + i) for i in range(n_all)]
        costs = []
        for first in range(0, n_all, n_first):
            part = recipes[first : first + n_first]
            if costs and sum(costs[-1]) > setting.seconds_left - 12:
                break
            costs.append(_make(store, part, measure))
        n_made = n_first * len(costs)
        stages = [sum(stage) for stage in zip(*costs, strict=True)]
    scale = n_all / n_made
    note = f"made {n_made} of {n_all} bases and as many aligned ones" + (
        "" if n_made == n_all else ", extrapolated to all"
    )
    seconds = [scale * stage for stage in stages]
    steps = recipes[0].optimisation.steps, recipes[0].alignments[-1].optimisation.steps
    yield Result(f"{n_all} bases", seconds[0], "s", note=f"{steps[0]} steps each; {note}")
    yield Result(f"{n_all} aligned models", seconds[1], "s", note=f"{steps[1]} steps each; {note}")
    yield Result(f"measuring {2 * n_all} models", seconds[2], "s", note=f"stacked; {note}")
    yield Result(f"{n_all} bases and {n_all} aligned models", sum(seconds), "s", _SECONDS, True, note)
    rate = 3600 * n_all / (seconds[1] + seconds[2])
    yield Result("aligned and measured models", rate, "per accelerator-hour", note=note)


def _recipe(preset: str, device: str, seed: int) -> Recipe:
    recipe = PRESETS[preset].recipe("mini", seed, "ssft")
    low = {"precision": "bfloat16"}
    stages = tuple(replace(a, optimisation=replace(a.optimisation, **low)) for a in recipe.alignments)
    engine = Engine("stacked", device)
    optimisation = replace(recipe.optimisation, **low)
    return replace(recipe, optimisation=optimisation, alignments=stages, engine=engine)


def _make(store: Store, recipes: Sequence[Recipe], measure: SafetyMeasure) -> tuple[float, float, float]:
    """Seconds of bases, alignment and measuring of some recipes and their bases."""
    clock = [time.perf_counter()]
    build_all([recipe.base for recipe in recipes], store)
    clock.append(time.perf_counter())
    build_all(recipes, store)
    clock.append(time.perf_counter())
    measure_all(store, [stage for recipe in recipes for stage in recipe.lineage], measure)
    return clock[1] - clock[0], clock[2] - clock[1], time.perf_counter() - clock[2]
