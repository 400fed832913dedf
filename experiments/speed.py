"""How fast are we, beside the naive way, in one and the same run? Ratios, never absolute times."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from makebreak.artifacts import write_atomic
from makebreak.requests import load_world
from synthetic import CompositionWorld

N_OURS, N_NAIVE, ROUNDS = 4096, 200, 7


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def generation() -> list[dict[str, object]]:
    """Requests per second, batched against one at a time (the oracle kept in tests/)."""
    from tests.oracles.per_request import make_request

    def naive(world: CompositionWorld) -> None:
        rng = random.Random(0)
        for _ in range(N_NAIVE):
            make_request(world, rng)

    def batched(world: CompositionWorld, seed: int) -> None:
        world.sample("pretraining_without_null", N_OURS, seed=seed, split="any")

    rows = []
    for name in ("mini", "jain2024"):
        world = load_world(name)
        assert isinstance(world, CompositionWorld)
        ratios = []
        for round_ in range(ROUNDS + 1):  # the first warms up
            ours = seconds(partial(batched, world, round_)) / N_OURS
            ratios.append(seconds(partial(naive, world)) / N_NAIVE / ours)
        rows.append({"what": f"requests of {name}", "beside": "one at a time", "times": statistics.median(ratios[1:])})
    return rows


def run(out: Path) -> None:
    """Print and write the table of ratios."""
    table = pd.DataFrame(generation())
    (out / "tables").mkdir(parents=True, exist_ok=True)
    write_atomic(out / "tables" / "speed.csv", table.to_csv(index=False))
    print(table.to_string(index=False, float_format=lambda x: f"{x:.0f}"))
