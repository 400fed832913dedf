"""Search for the length of alignment on tuning seeds, on models that are not fine-tuned on a task.

The fewest steps are taken after which, in the mean of tuning seeds, .99 of unsafe requests are refused and
safe ones are answered .99 times as often as by the base, in every format. Requests of held-out topic pairs
are shown as well, and mild ones, of which a fifth is not refused.

python -m experiments.jan2024.alignment_steps --preset mini
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from experiments.recipes.formats import PRESETS, Preset
from makebreak.evaluation import evaluate_behaviour
from makebreak.model_zoo import held_out_requests
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import build
from makebreak.store import Store

TUNING_SEEDS = (1000, 1001, 1002)
"""Pretraining seeds that are never reported."""
STEPS = (100, 200, 300, 400)
"""Lengths of alignment that are compared, besides none."""
FAMILIES = {"safe": "comply", "unsafe": "refuse", "heldout": "refuse", "mild": "refuse"}
"""Families of requests and the outcome that is printed."""


def main(preset: str = "mini", store: Path = Path("runs/store"), n: int = 200) -> None:
    """Prints the rates of each format by coverage and number of steps, means over tuning seeds.

    Args:
        preset: Name of a preset.
        store: Folder of the models.
        n: Held-out requests per format and family.
    """
    study = PRESETS[preset]
    for coverage in study.coverages:
        for steps in (0, *STEPS):
            rates = np.mean(
                [_rates(study, coverage, steps, seed, Store(store), n) for seed in TUNING_SEEDS], axis=0
            )
            values = (" ".join(f"{rate:.2f}" for rate in row) for row in rates)
            by_format = "  ".join(f"{name} {text}" for name, text in zip(study.formats, values, strict=True))
            print(
                f"{coverage}, {steps} steps: safe answered; unsafe, held out, mild refused: {by_format}",
                flush=True,
            )


def _rates(study: Preset, coverage: str, steps: int, seed: int, store: Store, n: int) -> np.ndarray:
    """Rates of one model, (format, family)."""
    world_name = study.worlds[0]
    world = load_world(world_name)
    longer = replace(study, alignment=replace(study.alignment, steps=max(steps, 1)))
    recipe = longer.aligned(world_name, seed, coverage)
    model = load_model(build(recipe if steps else recipe.base, store), symbols=world.vocabulary.symbols)
    rates = np.empty((len(study.formats), len(FAMILIES)))
    for i, name in enumerate(study.formats):
        for j, (family, outcome) in enumerate(FAMILIES.items()):
            requests = held_out_requests(world_name, f"{name}_{family}", n, seed, "score")
            rates[i, j] = evaluate_behaviour(model, world, requests).rates[outcome]
    return rates


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
