"""Estimate of a preset's training time and peak memory on this machine, from a few timed steps."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from makebreak.models import create_model
from makebreak.prompts import load_world
from makebreak.recipes import Engine, Recipe
from makebreak.training import Optimisation, TrainingRun, train

N_TIMED_STEPS = 4
"""Steps of each kind that are timed, after a first one."""
CPU_BATCH_SIZE = 16
"""Batch size of a timed step on a CPU; a second one has twice the size, and the full size is extrapolated
linearly."""
MEMORY_BATCH_SIZES = (32, 96)
"""Batch sizes whose peaks of memory are extrapolated; peaks of smaller ones are hidden by the imports'
memory."""


def estimate(recipes: Collection[Recipe], world: str) -> str:
    """Hours of training by mechanism, and peak memory, from timed steps; measurements are not included.

    On a CPU the timed steps are of two small batch sizes, and the time of the full size is extrapolated.
    Single trainings are timed, which take longer than stacked ones on an accelerator.

    Args:
        recipes: All trainings of a run.
        world: World of the steps that are timed, for mechanisms that have a recipe in it; others are timed in
            their own world. A mechanism is taken to be as fast in all worlds.

    Returns:
        One line per mechanism and number of steps, and a last line with the sum.
    """
    counts: Counter[tuple[str, int]] = Counter()
    examples: dict[str, Recipe] = {}
    for recipe in recipes:
        counts[recipe.mechanism, _last_stage(recipe).steps] += 1
        if recipe.world == world or recipe.mechanism not in examples:
            examples[recipe.mechanism] = recipe
    largest = max(_last_stage(recipe).batch_size for recipe in examples.values())
    limit = largest if torch.cuda.is_available() else CPU_BATCH_SIZE
    # measured before anything larger has run, because the peak of a process never falls
    peak = None if torch.cuda.is_available() else _peak_memory(list(examples.values()), largest)
    seconds = {mechanism: _seconds_per_step(recipe, limit) for mechanism, recipe in examples.items()}
    lines, hours = [], 0.0
    for (mechanism, steps), n in sorted(counts.items()):
        per_step = seconds[mechanism]
        lines.append(
            f"{n} × {mechanism}: {steps} steps of {per_step:.2f} s, {n * steps * per_step / 3600:.1f} h"
        )
        hours += n * steps * per_step / 3600
    memory = torch.cuda.max_memory_allocated() / 2**30 if peak is None else peak
    device = torch.cuda.get_device_name() if peak is None else f"a CPU of {torch.get_num_threads()} threads"
    note = f", extrapolated from batches of {limit} and {2 * limit}" if 2 * limit < largest else ""
    lines.append(f"training: {hours:.1f} h in all, at most {memory:.1f} GiB; timed on {device}{note}")
    if Engine.default().name == "stacked":
        lines.append("single trainings were timed: in stacks they take less time on an accelerator")
    return "\n".join(lines)


def _last_stage(recipe: Recipe) -> Optimisation:
    return recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation


def _seconds_per_step(recipe: Recipe, limit: int) -> float:
    """Seconds per step of the last stage, without start-up and saving."""
    batch_size = _last_stage(recipe).batch_size
    sizes = [batch_size] if batch_size <= 2 * limit else [limit, 2 * limit]
    _train_briefly(recipe, 1, sizes[-1])  # the first training of a process is slower
    times = []
    for size in sizes:
        start_up = _train_briefly(recipe, 1, size)
        total = _train_briefly(recipe, 1 + N_TIMED_STEPS, size)
        times.append((total - start_up) / N_TIMED_STEPS)
    return times[0] if sizes == [batch_size] else _extrapolate(batch_size, sizes, times)


def _extrapolate(size: int, sizes: list[int], values: list[float]) -> float:
    """Value on the line through two points; proportional to the second one if noise makes the line fall."""
    slope = (values[1] - values[0]) / (sizes[1] - sizes[0])
    return values[1] + slope * (size - sizes[1]) if slope > 0 else values[1] * size / sizes[1]


def _train_briefly(recipe: Recipe, steps: int, batch_size: int) -> float:
    """Seconds that a number of steps of a recipe's last stage take, from untrained weights."""
    world = load_world(recipe.world)
    objective = recipe.alignments[-1].objective if recipe.alignments else recipe.pretraining
    model = create_model(recipe.model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0)
    optimisation = replace(_last_stage(recipe), steps=steps, batch_size=batch_size, checkpoints=1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = TrainingRun(seed=0, label="estimate", checkpoint_seconds=1e9)
        train(model, objective, optimisation, world, Path(folder), run)
        return time.perf_counter() - started


def _peak_memory(recipes: list[Recipe], batch_size: int) -> float:
    """Peak memory of this process at a batch size, in GiB, extrapolated from smaller ones."""
    peaks = []
    for size in MEMORY_BATCH_SIZES:
        for recipe in recipes:
            _train_briefly(recipe, 1, min(size, batch_size))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    low, high = MEMORY_BATCH_SIZES
    return max(peaks[1], peaks[1] + (peaks[1] - peaks[0]) / (high - low) * (batch_size - high))
