"""How long would a preset take on this machine, and how much memory? Asked of a few real steps of each kind."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from makebreak.models import create
from makebreak.recipes import Recipe
from makebreak.requests import load_world
from makebreak.training import Optimisation, train

STEPS = 4
ON_CPU = 16  # requests in a timed step there, and twice as many: what it takes lies on a line
FOR_MEMORY = (32, 96)  # requests, of which peaks are compared: smaller ones hide behind what imports take


def estimate(recipes: Collection[Recipe], world: str) -> str:
    """Hours of training by mechanism, and the peak of memory, from `STEPS` timed steps of each kind; measures apart.

    On a CPU the steps are small ones, of two sizes, and what they take is extrapolated.
    """
    kinds: Counter[tuple[str, int]] = Counter()
    examples: dict[str, Recipe] = {}
    for recipe in recipes:
        kinds[recipe.mechanism, _last(recipe).steps] += 1
        if recipe.world == world:  # of which the others are a part
            examples[recipe.mechanism] = recipe
    largest = max(_last(recipe).batch_size for recipe in examples.values())
    limit = largest if torch.cuda.is_available() else ON_CPU
    # before anything larger has run: a process's peak does not come down again
    peak = None if torch.cuda.is_available() else _memory(list(examples.values()), world, largest)
    seconds = {mechanism: _seconds_per_step(recipe, world, limit) for mechanism, recipe in examples.items()}
    lines = [
        f"{n} × {mechanism}: {steps} steps of {seconds[mechanism]:.2f} s, {n * steps * seconds[mechanism] / 3600:.1f} h"
        for (mechanism, steps), n in sorted(kinds.items())
    ]
    hours = sum(n * steps * seconds[mechanism] for (mechanism, steps), n in kinds.items()) / 3600
    memory = torch.cuda.max_memory_allocated() / 2**30 if peak is None else peak
    device = torch.cuda.get_device_name() if peak is None else f"a CPU of {torch.get_num_threads()} threads"
    scaled = f", extrapolated from batches of {limit} and {2 * limit}" if 2 * limit < largest else ""
    lines.append(f"training: {hours:.1f} h in all, at most {memory:.1f} GiB; timed on {device}{scaled}")
    return "\n".join(lines)


def _last(recipe: Recipe) -> Optimisation:
    return recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation


def _seconds_per_step(recipe: Recipe, world: str, limit: int) -> float:
    """Of one stage on fresh weights, the first steps left out; saving is not timed."""
    batch = _last(recipe).batch_size
    sizes = [batch] if batch <= 2 * limit else [limit, 2 * limit]
    _train(recipe, world, 1, sizes[-1])
    times = []
    for size in sizes:
        few, more = (_train(recipe, world, steps, size) for steps in (1, 1 + STEPS))
        times.append((more - few) / STEPS)
    return times[0] if sizes == [batch] else _line(batch, sizes, times)


def _line(at: int, sizes: list[int], values: list[float]) -> float:
    """On the line through two points, where noise has not made it fall; else in proportion to the second."""
    slope = (values[1] - values[0]) / (sizes[1] - sizes[0])
    return values[1] + slope * (at - sizes[1]) if slope > 0 else values[1] * at / sizes[1]


def _train(recipe: Recipe, name: str, steps: int, size: int) -> float:
    """Seconds that so many steps of a recipe's last stage take, from fresh weights."""
    world = load_world(name)
    objective = recipe.alignments[-1].objective if recipe.alignments else recipe.pretraining
    model = create(recipe.model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0)
    few = replace(_last(recipe), steps=steps, batch_size=size, checkpoints=1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(model, objective, few, world, Path(folder), seed=0, label="estimate", checkpoint_seconds=1e9)
        return time.perf_counter() - started


def _memory(recipes: list[Recipe], world: str, size: int) -> float:
    """GiB of this process at so many requests a step."""
    peaks = []
    for few in FOR_MEMORY:
        for recipe in recipes:
            _train(recipe, world, 1, min(few, size))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    low, high = FOR_MEMORY
    return max(peaks[1], peaks[1] + (peaks[1] - peaks[0]) / (high - low) * (size - high))
