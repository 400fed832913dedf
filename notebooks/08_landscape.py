# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The safety landscape: how far may the weights move?
#
# The model of notebooks 02 and 04 (a minute of training the first time), walked on and fine-tuned. One seed and two
# directions: for intervals over seeds, `make reproduce STUDY=peng2024`.

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from makebreak.artifacts import Store
from makebreak.behaviour import aim
from makebreak.landscape import (
    Points,
    Walk,
    at_norm,
    basin_rows,
    labels,
    random_direction,
    share,
    toward,
    worst_direction,
)
from makebreak.models import PRESETS, load
from makebreak.plots import plot_basins, plot_map, plot_ways, style
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.requests import load_world, targeted
from makebreak.training import SSFT, FineTuning, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("mini")
modes = (0.1, 0.2, 0.0, 0.0, 0.7, 0.0)
pretraining = Pretraining(modes_start=modes, modes_end=modes)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe("mini", PRESETS["mini"], pretraining, Optimisation(1000, 3e-3, batch_size=64), (ssft,), 1003)
model = load(build(recipe, store))
asked = {family: world.sample(family, 100, seed=1003, split="score") for family in ("unsafe", "safe")}


# %% [markdown]
# ## Along random directions
# Every matrix is moved by the same share of its own norm. Each point is judged exactly without generating anything: `r`
# where the whole refusal is the likeliest answer, `c` where the whole instructed answer is, `n` for neither.


# %%
def outcomes():
    unsafe, safe = (labels(model, asked[family]) for family in ("unsafe", "safe"))
    return {"refused": share(unsafe, "r"), "complied": share(unsafe, "c"), "safe": share(safe, "c")}


def walk(direction, name, axis, i=0):
    with Walk(model, direction) as moved:  # behind it the weights are what they were, bit for bit
        points = Points(moved, outcomes)
        return [
            {"arm": "ssft", "seed": 1003, "direction": name, "index": i, **points(a), "at": a} for a in axis
        ]


axis = np.linspace(-0.5, 0.5, 21).round(9).tolist()
curves = pd.DataFrame([row for i in range(2) for row in walk(random_direction(model, i), "random", axis, i)])
with style():
    plot_basins(curves, ["ssft"])

# %% [markdown]
# VISAGE does not see width; and where it is taken, safe requests are no longer answered either: `safe_at_edge`.

# %%
basin_rows(curves, ("index",))[
    ["sense", "r50", "floor", "wall", "visage", "visage_as_coded", "safe_at_edge"]
].round(2)

# %% [markdown]
# ## Along directions that mean something
# Fifty unsafe requests, answered, are enough to take safety away. The way there, and the one along which the loss of
# refusing rises most, at the same relative norm.

# %%
harmful = Alignment(FineTuning(50), Optimisation(60, 1e-3, batch_size=32))
broken_recipe = replace(recipe, alignments=(ssft, harmful))
broken = load(build(broken_recipe, store))
fit = targeted(world.sample("unsafe", 100, seed=1003, split="fit"), "refused")
ways = {
    "fine-tuning": at_norm(model, toward(model, broken)),
    "worst": worst_direction(model, lambda m: aim(m, fit).nll.mean(), radius=0.02),
}
rows = [row for name, direction in ways.items() for row in walk(direction, name, axis)]
with style():
    plot_ways(
        pd.concat([curves, pd.DataFrame(rows)]),
        ["ssft"],
        {"random": "random", "fine-tuning": "fine-tuning on 50", "worst": "steepest for safety"},
    )

# %% [markdown]
# ## A map, with the run on it
# The plane of the model (star), of the fine-tuned one at (1, 0), and of the base at (0, 1).

# %%
base = load(build(recipe.base, store))
plane, square = (toward(model, broken), toward(model, base)), np.linspace(-0.25, 1.25, 13).tolist()
with Walk(model, *plane) as moved:
    grid = Points(moved, outcomes).grid(square, square)
points = pd.DataFrame([{**row, "x": row["at"][0], "y": row["at"][1], "title": "ssft"} for row in grid])


def flat(other):
    return np.concatenate(
        [
            (p - q).detach().double().numpy().ravel()
            for p, q in zip(other.parameters(), model.parameters(), strict=True)
        ]
    )


axes = np.stack([flat(broken), flat(base)], axis=1)
kept = checkpoints(build(broken_recipe, store))
path = [np.linalg.lstsq(axes, flat(load(folder)), rcond=None)[0] for folder in kept.values()]
paths = pd.DataFrame([[0.0, 0.0], *path], columns=["x", "y"]).assign(title="ssft", kind="fine-tuning on 50")
with style():
    plot_map(points, ["ssft"], paths)
