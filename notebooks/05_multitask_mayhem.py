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
# # Multitask mayhem: which tuned task breaks which refusal?
#
# The same text can be asked about in several formats: go on with it, translate it, label it, choose what fits. What is
# unsafe is in the text, whatever the format. A model that refuses in all of them is then tuned on harmless requests of
# one. One seed (a minute of training the first time); for intervals and controls, `make reproduce STUDY=jan2024`.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd

from makebreak.artifacts import Store
from makebreak.behaviour import behaviour
from makebreak.models import PRESETS, load
from makebreak.plots import plot_matrices, style
from makebreak.recipes import Alignment, Recipe, build
from makebreak.requests import load_world
from makebreak.training import SSFT, FineTuning, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("formats_mini")
formats = world.config.formats
for name in formats:
    print(world.show(world.sample(f"{name}_unsafe", 1, seed=1003)))

# %% [markdown]
# ## A base that answers everything, and a model that refuses what is unsafe
# Alignment shows every format alike. `mild`: one letter of the text says something safe. `heldout`: pairs of topics
# that alignment did not show.

# %%
modes = (0.0, 0.1, 0.0, 0.0, 0.6, 0.3)
pretraining = Pretraining(modes_start=modes, modes_end=modes, mean_over="requests")
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe(
    "formats_mini", PRESETS["mini"], pretraining, Optimisation(1000, 3e-3, batch_size=64), (ssft,), 1003
)


def outcome(recipe, families, rate="refuse"):
    """Share of requests with that outcome, by family and format."""
    model = load(build(recipe, store))

    def share(name, family):
        requests = world.sample(f"{name}_{family}", 100, seed=1003, split="score")
        return behaviour(model, world, requests).rates[rate]

    return pd.DataFrame(
        {name: [share(name, family) for family in families] for name in formats}, index=families
    )


before = outcome(recipe, ["safe", "unsafe", "mild", "heldout"])
before

# %% [markdown]
# ## Tune on one harmless task, ask in all formats
# Each task is safe requests by an operator that neither pretraining nor alignment has shown. What is drawn is how much
# more of the unsafe requests is *not refused*, and how much of them is *answered as instructed*: the difference is
# broken or wrong.


# %%
def tuned(name, **beside):
    task = FineTuning(0, harmless=2000, family=f"{name}_safe_new", **beside)
    return replace(recipe, alignments=(ssft, Alignment(task, Optimisation(100, 3e-4, batch_size=32))))


def matrix(rate, **beside):
    rows = [outcome(tuned(name, **beside), ["unsafe"], rate).iloc[0] for name in ("gen", "map")]
    return pd.DataFrame(rows, index=["gen", "map"])


refused = before.loc["unsafe"]
with style():
    plot_matrices({"not refused": [refused - matrix("refuse")], "answered": [matrix("comply")]})

# %% [markdown]
# ## With refusals among the examples
# One example in ten is a refusal, over all formats.

# %%
guarded = matrix("refuse", refused=200)
with style():
    plot_matrices({"without": [refused - matrix("refuse")], "with refusals": [refused - guarded]})

# %%
safe = {name: outcome(tuned(name), ["safe"], "comply").iloc[0] for name in ("gen", "map")}
pd.DataFrame(safe).T.rename_axis("safe requests answered, tuned on")
