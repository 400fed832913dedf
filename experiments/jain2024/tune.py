"""Which rate is η_M, and which scale makes twins equal? Found on tuning seeds, never on a reported one.

η_M is the smallest rate of the grid that passes the check on every tuning seed. A twin's scale is the one at which it
moves the weights as far as its method does: ‖ΔW‖, mean of the tuning seeds.

python -m experiments.jain2024.tune --preset mini --world hidden --methods ssft npo
"""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path

import tyro

from experiments.jain2024.checks import LEAST
from experiments.jain2024.presets import GRID, OBJECTIVES, PRESETS, TUNING_SEEDS, TWINS, Preset
from makebreak.artifacts import Store
from makebreak.configs import nearest
from makebreak.zoo import Strength, measure

SLACK = 0.03  # three tuning seeds do not bound a fourth
FORGETTING = ("ascent", "npo")  # no null target: they are to stop complying
NEAR = 0.03  # twins are to be within 10 % on the reported seeds


def main(
    preset: str = "mini",
    world: str = "mini",
    store: Path = Path("runs/store"),
    methods: tuple[str, ...] = tuple(OBJECTIVES),
) -> None:
    """Print all that is tried, the smallest rate that passes on all tuning seeds, the scale at which a twin is equal.

    methods: methods and twins. DPO after the preset has SSFT's rate, for its warm start; a twin after its method's.
    """
    known = [(preset, list(PRESETS)), *((method, [*OBJECTIVES, *TWINS]) for method in methods)]
    known += [(world, list(PRESETS[preset].worlds))] if preset in PRESETS else []
    for name, names in known:
        if name not in names:
            sys.exit(f"error: {name!r} does not exist; {nearest(name, names)}")
    for method in methods:
        find = _match if method in TWINS else _smallest
        print(f"{method}: {find(PRESETS[preset], world, method, Store(store))}", flush=True)


def _smallest(preset: Preset, world: str, method: str, store: Store) -> str:
    """Where none passes, the rate whose worst part is best on the first tuning seed."""
    first: dict[float, float] = {}
    for rate in GRID:
        slack = 0.0
        for seed in TUNING_SEEDS:
            slack = _slack(preset, world, method, rate, seed, store)
            first.setdefault(rate, slack)
            if slack < 0:
                break
        else:
            return f"η_M = {rate:g}"
    nearest_rate = max(first, key=first.__getitem__)
    edge = ", at the edge of the grid" if nearest_rate in (GRID[0], GRID[-1]) else ""
    return f"no rate of the grid passes, {nearest_rate:g} comes nearest{edge}"


def _match(preset: Preset, world: str, twin: str, store: Store, attempts: int = 5) -> str:
    """Secant steps on log ‖ΔW‖ over log scale, each by a factor of 4 at most; the first with a slope of 3 / 4."""
    target = _change(preset, world, TWINS[twin], 1.0, store)
    tried: list[tuple[float, float]] = []
    scale, slope = 1.0, 0.75
    for _ in range(attempts):
        ratio = _change(preset, world, twin, scale, store) / target
        print(f"{world} {twin} scale {scale:g}: ‖ΔW‖ {ratio:.3f} of its method's", flush=True)
        if abs(ratio - 1) <= NEAR:
            return f"scale {scale:g}"
        tried.append((math.log(scale), math.log(ratio)))
        if len(tried) > 1:
            (x0, y0), (x1, y1) = tried[-2:]
            slope = (y1 - y0) / (x1 - x0) if (y1 - y0) * (x1 - x0) > 0 else slope
        scale = round(scale * min(max(ratio ** (-1 / slope), 1 / 4), 4), 2)
    return f"no scale within {NEAR:.0%} after {attempts}"


def _change(preset: Preset, world: str, arm: str, scale: float, store: Store) -> float:
    recipes = [preset.recipe(world, seed, arm, scale=scale) for seed in TUNING_SEEDS]
    found = [
        measure(store, recipe, Strength(preset.n_requests))[0][0].columns["weight_change"]
        for recipe in recipes
    ]
    return statistics.fmean(change for change in found if change is not None)


def _slack(preset: Preset, world: str, method: str, rate: float, seed: int, store: Store) -> float:
    """How far the worst part of the check is above what is asked for, `SLACK` included."""
    recipe = preset.recipe(world, seed, method, rate=rate)
    [(found, _)] = measure(store, recipe, Strength(preset.n_requests))
    rates = {name: value for name, value in found.columns.items() if value is not None}
    stopped = 1 - rates["unsafe.comply"] if method in FORGETTING else rates["unsafe.refuse"]
    asked = {
        "C1.refuse": stopped,
        "C1.comply": rates["safe.comply"],
        "C1.over_refusal": 1 - rates["safe.refuse"],
    }
    slack = round(min(rate - LEAST[name] for name, rate in asked.items()) - SLACK, 9)
    shown = ", ".join(
        f"{name} {rates[name]:.3f}"
        for name in ("unsafe.refuse", "unsafe.comply", "safe.comply", "safe.refuse")
    )
    print(f"{world} {method} rate {rate:g} seed {seed}: {shown}{'' if slack < 0 else '  pass'}", flush=True)
    return slack


if __name__ == "__main__":
    tyro.cli(main)
