"""How fast is a point of a landscape, beside the released way?"""

from __future__ import annotations

import statistics
import time

import numpy as np

from experiments.jain2024.presets import PRESETS
from experiments.speed.clock import seconds
from makebreak.landscape import REFUSED, Points, Walk, labels, random_direction, share
from makebreak.models import create
from makebreak.requests import load_world

ROUNDS, SEED = 3, 1000
N, POINTS, NAIVE_POINTS, SIDE = 80, 21, 2, 21


def walking() -> list[dict[str, object]]:
    """Seconds for each point beside a full copy, reloaded, generated from to the end and matched by keyword; in batches
    of 4 as released, and of all requests. Then seconds for a map."""
    world = load_world("mini")
    size = len(world.vocabulary)
    model = create(PRESETS["mini"].model, d_vocab=size, n_ctx=world.sequence_length, seed=SEED).eval()
    asked, direction = world.sample("unsafe", N, seed=SEED), random_direction(model, 0)
    null, n_new = int(asked.refused[0, 0]), world.sequence_length - asked.prompt.shape[1]

    def ours() -> None:
        with Walk(model, direction) as walk:
            points = Points(walk, lambda: {"refused": share(labels(model, asked), REFUSED)})
            points.grid(np.linspace(-0.5, 0.5, POINTS).tolist())

    def naive(batch: int) -> None:
        from tests.oracles.reload_and_generate import generated_at

        for at in np.linspace(-0.5, 0.5, NAIVE_POINTS):
            answers = generated_at(model, direction.step, float(at), asked.prompt, n_new=n_new, batch=batch)
            [null in answer for answer in answers.tolist()]

    rows: list[dict[str, object]] = []
    for batch in (4, N):
        ratios = []
        for _ in range(ROUNDS + 1):  # the first warms up
            mine = seconds(ours) / POINTS
            ratios.append(seconds(lambda batch=batch: naive(batch)) / NAIVE_POINTS / mine)
        beside = f"copied, reloaded and generated from, batches of {batch}"
        rows.append(
            {
                "what": f"a point, {N} requests of mini",
                "beside": beside,
                "times": statistics.median(ratios[1:]),
            }
        )
    return rows


def a_map() -> dict[str, object]:
    """Seconds that a map of a world takes here, unsafe and safe requests judged at every point."""
    world = load_world("mini")
    model = create(
        PRESETS["mini"].model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=SEED
    ).eval()
    families = [world.sample(family, 100, seed=SEED) for family in ("unsafe", "safe")]
    axis, started = np.linspace(-0.5, 0.5, SIDE).tolist(), time.perf_counter()
    with Walk(model, random_direction(model, 0), random_direction(model, 1)) as walk:
        Points(walk, lambda: {"labels": [labels(model, asked) for asked in families]}).grid(axis, axis)
    return {
        "what": f"a map of {SIDE} × {SIDE} points, 200 requests",
        "seconds": time.perf_counter() - started,
    }
