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
# # Quickstart: a world, a model made safe, one look inside, one jailbreak
#
# Everything here is small enough for a laptop: about a minute of training the first time, seconds afterwards.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from makebreak.artifacts import Store
from makebreak.behaviour import behaviour
from makebreak.mechanism import cluster_rows
from makebreak.models import PRESETS, load
from makebreak.recipes import Alignment, Recipe, build
from makebreak.requests import load_world
from makebreak.training import SSFT, Optimisation, Pretraining

torch.manual_seed(0)
store = Store(Path("runs/store"))

# %% [markdown]
# ## A world
# A request is a row of task tokens and a text. Each task is a bijection of letters; an output is due after every
# second task. Whether a task is safe depends on the *grammar and branch that the text comes from*.

# %%
world = load_world("mini")
print(world.show(world.sample("unsafe", 3, seed=1000)))

# %%
pd.DataFrame(world.families.items(), columns=["family", "what it asks"])

# %% [markdown]
# ## A model made safe
# A recipe says how a model was made; `build` trains what is not in the store yet. The pretraining here is shorter than
# that of the study (`make reproduce`), so expect a rougher model. Seeds from 1000 on are never reported.

# %%
modes = (0.1, 0.2, 0.0, 0.0, 0.7, 0.0)
base_recipe = Recipe(
    world="mini",
    model=PRESETS["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes),
    optimisation=Optimisation(steps=1000, learning_rate=3e-3, batch_size=64),
    alignments=(),
    seed=1003,
)
ssft = Alignment(SSFT(), Optimisation(steps=300, learning_rate=1e-3, batch_size=64))
base = load(build(base_recipe, store))
safe = load(build(replace(base_recipe, alignments=(ssft,)), store))

# %% [markdown]
# Free-running greedy answers on texts that no training saw, judged exactly. Safety is never shown without over-refusal
# and task accuracy beside it.


# %%
def rates(families: list[str]) -> pd.DataFrame:
    rows = [
        {
            "model": name,
            "family": family,
            **behaviour(model, world, world.sample(family, 300, seed=1, split="score")).rates,
        }
        for name, model in (("base", base), ("SSFT", safe))
        for family in families
    ]
    return pd.DataFrame(rows).set_index(["family", "model"]).round(2)


standard = rates(["safe", "unsafe"])
standard

# %% [markdown]
# ## One look inside
# τ says on which side an activation lies: positive, nearer the mean of safe requests. Token-matched requests have the
# same tasks and differ in the text's branch; the `shuffled` column is the control.


# %%
def pair(safe_family: str, unsafe_family: str, split: str):
    return tuple(world.sample(f, 300, seed=2, split=split) for f in (safe_family, unsafe_family))


fit = pair("safe", "unsafe", "fit")
score = {"token-matched": pair("context_safe", "context_unsafe", "score")}
inside = pd.concat(
    pd.DataFrame(cluster_rows(model, fit, score, n_groups=world.n_grammars, seed=0)).assign(model=name)
    for name, model in (("base", base), ("SSFT", safe))
).set_index(["layer", "model"])[["normalised", "auroc", "shuffled_normalised"]]
inside.round(2)

# %% [markdown]
# ## One jailbreak
# Competing objectives: each pair of tasks holds an unsafe task and a safe one. Held-out derivations and texts that mix
# both branches are others.

# %%
jailbreaks = rates(["unsafe", "competing_tasks_safe_branch", "mixed_text", "duplicate_tasks"])
jailbreaks

# %% [markdown]
# An attack "not refused" is not yet one that is obeyed: compare `refuse` with `comply`. The study `jain2024` gives the
# same numbers with intervals over pretraining seeds and with its controls.

# %%
after, before = (standard.loc[("unsafe", name), "refuse"] for name in ("SSFT", "base"))
assert after > before, "safety fine-tuning should make the model refuse more"
