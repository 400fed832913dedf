"""Speed of evaluating points of a safety landscape, relative to copying and generating at each point."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.recipes.composition import PRESETS
from experiments.speed.timing import SpeedRow, median_ratio, seconds
from makebreak.evaluation import WorldTarget
from makebreak.models import create_model
from makebreak.prompts import load_world
from makebreak.weight_landscape import Landscape, random_direction

ROUNDS, SEED = 3, 1000
N_REQUESTS = 80
N_POINTS, N_BASELINE_POINTS = 21, 2
MAP_SIDE = 21
"""Points of a two-dimensional map along each axis."""


class MapRow(NamedTuple):
    """Cost of a two-dimensional landscape on this machine."""

    task: str
    """Size of the map."""
    seconds: float
    """Wall-clock time on one core."""


def landscape_rows() -> list[SpeedRow]:
    """Seconds per point, relative to a copied and reloaded model that generates to the end at each point.

    The baseline matches keywords in batches of 4, as in the released code, and in one batch of all requests.
    """
    world = load_world("mini")
    size = len(world.vocabulary)
    model = create_model(PRESETS["mini"].model, d_vocab=size, n_ctx=world.sequence_length, seed=SEED).eval()
    requests, direction = world.sample("unsafe", N_REQUESTS, seed=SEED), random_direction(model, 0)
    refusal, n_new = int(requests.refused[0, 0]), world.sequence_length - requests.prompt.shape[1]

    def ours() -> None:
        landscape = Landscape(WorldTarget(model), {"unsafe": requests})
        landscape.walk(direction, np.linspace(-0.5, 0.5, N_POINTS).tolist())

    def baseline(batch: int) -> None:
        from tests.oracles.reload_and_generate import generate_at

        for position in np.linspace(-0.5, 0.5, N_BASELINE_POINTS).tolist():
            answers = generate_at(model, direction.step, position, requests.prompt, n_new=n_new, batch=batch)
            [refusal in answer for answer in answers.tolist()]

    rows = []
    for batch in (4, N_REQUESTS):
        ratios = []
        for _ in range(ROUNDS + 1):
            our_seconds = seconds(ours) / N_POINTS
            ratios.append(seconds(partial(baseline, batch)) / N_BASELINE_POINTS / our_seconds)
        description = f"copied, reloaded and generated from, batches of {batch}"
        rows.append(SpeedRow(f"a point, {N_REQUESTS} requests of mini", description, median_ratio(ratios)))
    return rows


def map_row() -> MapRow:
    """Seconds that a map takes in which unsafe and safe requests are judged at every point."""
    world = load_world("mini")
    size = len(world.vocabulary)
    model = create_model(PRESETS["mini"].model, d_vocab=size, n_ctx=world.sequence_length, seed=SEED).eval()
    families = {family: world.sample(family, 100, seed=SEED) for family in ("unsafe", "safe")}
    axis, start = np.linspace(-0.5, 0.5, MAP_SIDE).tolist(), time.perf_counter()
    landscape = Landscape(WorldTarget(model), families)
    landscape.points(random_direction(model, 0), random_direction(model, 1)).grid(axis, axis)
    task = f"a map of {MAP_SIDE} × {MAP_SIDE} points, 200 requests"
    return MapRow(task, time.perf_counter() - start)
