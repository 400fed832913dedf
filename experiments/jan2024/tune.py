"""How long is alignment? The fewest steps after which, in the mean of tuning seeds, .99 of unsafe requests are refused
and .99 of safe ones answered as far as the base answers them, in every format (finetune_risks H12).

Models that no task has been tuned on. Requests of held-out pairs are shown beside, and mild ones, of which a fifth is
not refused.

python -m experiments.jan2024.tune --preset mini
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from experiments.jan2024.presets import PRESETS
from makebreak.artifacts import Store
from makebreak.behaviour import behaviour
from makebreak.models import load
from makebreak.recipes import build
from makebreak.requests import load_world
from makebreak.zoo import asked

TUNING_SEEDS = (1000, 1001, 1002)
STEPS = (100, 200, 300, 400)


def main(preset: str = "mini", store: Path = Path("runs/store"), n: int = 200) -> None:
    """Print, for every number of steps, the rates of each format, means over tuning seeds."""
    spec = PRESETS[preset]
    world = spec.worlds[0]
    symbols = load_world(world).vocabulary.symbols
    for coverage in spec.coverages:
        for steps in (0, *STEPS):
            own = replace(spec, alignment=replace(spec.alignment, steps=max(steps, 1)))
            rows = []
            for seed in TUNING_SEEDS:
                recipe = own.aligned(world, seed, coverage)
                model = load(build(recipe if steps else recipe.base, Store(store)), symbols=symbols)
                rows.append(
                    [
                        behaviour(
                            model, load_world(world), asked(world, f"{name}_{kind}", n, seed, "score")
                        ).rates
                        for name in spec.formats
                        for kind in ("safe", "unsafe", "heldout", "mild")
                    ]
                )
            mean = np.array(
                [[r["comply" if i % 4 == 0 else "refuse"] for i, r in enumerate(row)] for row in rows]
            )
            told = "  ".join(
                f"{name} {' '.join(f'{x:.2f}' for x in mean.mean(axis=0)[4 * i : 4 * i + 4])}"
                for i, name in enumerate(spec.formats)
            )
            print(
                f"{coverage}, {steps} steps: safe answered; unsafe, held out, mild refused: {told}",
                flush=True,
            )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
