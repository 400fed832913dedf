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
# # The safety landscape: refusal and compliance along directions in weight space
#
# The model of notebooks 02 and 04 (a minute of training the first time), perturbed and fine-tuned. This is
# one seed with two random directions: `make reproduce STUDY=peng2024` gives intervals over seeds.

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from makebreak.evaluation import WorldTarget, score_targets
from makebreak.models import MODEL_SIZES, load_model
from makebreak.plots import plot_basins, plot_direction_curves, plot_landscape_plane, style
from makebreak.prompts import load_world, target_sequences
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.store import Store
from makebreak.training import SSFT, FineTuning, ModeShares, Optimisation, Pretraining
from makebreak.weight_landscape import (
    Landscape,
    basin_rows,
    direction_to,
    outcome_rates,
    random_direction,
    rescale_to_norm,
    worst_direction,
)

store, world = Store(Path("runs/store")), load_world("mini")
modes = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe(
    world="mini",
    model=MODEL_SIZES["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes),
    optimisation=Optimisation(1000, 3e-3, batch_size=64),
    alignments=(ssft,),
    seed=1003,
)
model = load_model(build(recipe, store))
requests = {family: world.sample(family, 100, seed=1003, split="score") for family in ("unsafe", "safe")}
landscape = Landscape(WorldTarget(model), requests)


# %% [markdown]
# ## Random directions
# Every matrix is perturbed by the same share of its own norm. Outcomes at each point are exact, without
# generation: whether greedy decoding gives the refusal, the instructed answer, or neither.


# %%
def curve_rows(direction, name, index=0):
    points = landscape.walk(direction, coordinates)  # afterwards the weights are restored bit for bit
    curve = {"arm": "ssft", "seed": 1003, "direction": name, "index": index}
    return [curve | {"coordinate": a} | outcome_rates(points[a])._asdict() for a in coordinates]


coordinates = np.linspace(-0.5, 0.5, 21).round(9).tolist()
rows = []
for index in range(2):
    rows += curve_rows(random_direction(model, index), "random", index)
curves = pd.DataFrame(rows)
with style():
    plot_basins(curves, ["ssft"])

# %% [markdown]
# Widths of the basin by criterion. VISAGE depends on the range of the coordinates as well as on the
# half-width `r50`. Where refusal has fallen to one half, safe requests are answered less often too:
# `safe_compliance_at_r50` is their compliance there as a share of that at the origin.

# %%
basin_rows(curves, ("index",))[
    ["criterion", "r50", "plateau", "transition_width", "visage", "visage_released", "safe_compliance_at_r50"]
].round(2)

# %% [markdown]
# ## Fine-tuning direction and steepest direction
# Refusal along the direction of a fine-tuning attack on 50 harmful examples, and along the direction in which
# the loss of the refusals rises most, both rescaled to the same relative norm as the random directions.

# %%
attack = Alignment(FineTuning(50), Optimisation(60, 1e-3, batch_size=32))
attacked_recipe = replace(recipe, alignments=(ssft, attack))
attacked = load_model(build(attacked_recipe, store))
refusals = target_sequences(world.sample("unsafe", 100, seed=1003, split="fit"), "refused")
rows = curve_rows(rescale_to_norm(model, direction_to(model, attacked)), "fine-tuning")
steepest = worst_direction(model, lambda m: score_targets(m, refusals).nll.mean(), radius=0.02)
rows += curve_rows(steepest, "worst")
names = {"random": "random", "fine-tuning": "fine-tuning on 50", "worst": "steepest for safety"}
with style():
    plot_direction_curves(pd.concat([curves, pd.DataFrame(rows)]), ["ssft"], names)

# %% [markdown]
# ## Plane through three models, with the training run
# The plane through the model (star, at the origin), the fine-tuned model at (1, 0) and the base at (0, 1).

# %%
base = load_model(build(recipe.base, store))
axis = np.linspace(-0.25, 1.25, 13).tolist()
grid = landscape.points(direction_to(model, attacked), direction_to(model, base)).grid(axis, axis)
points = pd.DataFrame([outcome_rates(landscape.outcomes(point)) for point in grid])
points[["x", "y"]] = [point["coordinates"] for point in grid]


def weight_difference(other):
    """All weights of another model minus those of the model, as one vector."""
    pairs = zip(other.parameters(), model.parameters(), strict=True)
    return np.concatenate([(p - q).detach().double().numpy().ravel() for p, q in pairs])


plane = np.stack([weight_difference(attacked), weight_difference(base)], axis=1)
path = [[0.0, 0.0]]
for folder in checkpoints(build(attacked_recipe, store)).values():
    difference = weight_difference(load_model(folder))
    path.append(np.linalg.lstsq(plane, difference, rcond=None)[0].tolist())
run = pd.DataFrame(path, columns=["x", "y"]).assign(title="ssft", kind="fine-tuning on 50")
with style():
    plot_landscape_plane(points.assign(title="ssft"), ["ssft"], run)
