"""How long would a preset take on this machine, and how much memory? Asked of a few real steps of each kind."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from experiments.jain2024.presets import Preset
from makebreak.models import create
from makebreak.recipes import Recipe
from makebreak.requests import load_world
from makebreak.training import Optimisation, train

STEPS = 4


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of, warm starts included."""
    return {stage for seed in seeds for arm in preset.arms for stage in preset.recipe(world, seed, arm).lineage}


def estimate(preset: Preset, world: str, seeds: tuple[int, ...]) -> str:
    """Hours of training by mechanism, and the peak of memory, from `STEPS` timed steps of each kind; measures apart."""
    kinds: Counter[tuple[str, int]] = Counter()
    examples: dict[str, Recipe] = {}
    for recipe in trainings(preset, world, seeds):
        kinds[recipe.mechanism, _last(recipe).steps] += 1
        examples[recipe.mechanism] = recipe
    seconds = {mechanism: _seconds_per_step(recipe, world) for mechanism, recipe in examples.items()}
    lines = [
        f"{n} × {mechanism}: {steps} steps of {seconds[mechanism]:.2f} s, {n * steps * seconds[mechanism] / 3600:.1f} h"
        for (mechanism, steps), n in sorted(kinds.items())
    ]
    hours = sum(n * steps * seconds[mechanism] for (mechanism, steps), n in kinds.items()) / 3600
    lines.append(f"training: {hours:.1f} h in all; {_memory()}; timed on {_device()}")
    return "\n".join(lines)


def _last(recipe: Recipe) -> Optimisation:
    return recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation


def _seconds_per_step(recipe: Recipe, name: str) -> float:
    """Of one stage on fresh weights, the first two steps left out; saving is not timed."""
    world = load_world(name)
    objective = recipe.alignments[-1].objective if recipe.alignments else recipe.pretraining

    def timed(steps: int) -> float:
        model = create(recipe.model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            few = replace(_last(recipe), steps=steps, checkpoints=1)
            started = time.perf_counter()
            train(model, objective, few, world, Path(folder), seed=0, label="estimate", checkpoint_seconds=1e9)
            return time.perf_counter() - started

    timed(1)
    return (timed(1 + STEPS) - timed(1)) / STEPS


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"a CPU of {torch.get_num_threads()} threads"


def _memory() -> str:
    if torch.cuda.is_available():
        return f"at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the accelerator"
    return f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory"
