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
# # Quickstart: a synthetic world, safety fine-tuning, class separation and one jailbreak
#
# Everything here runs on a laptop: about a minute of training the first time, seconds afterwards.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from makebreak.evaluation import evaluate_behaviour
from makebreak.mechanism import cluster_rows
from makebreak.models import MODEL_SIZES, load_model
from makebreak.prompts import Requests, load_world
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store
from makebreak.training import SSFT, ModeShares, Optimisation, Pretraining

torch.manual_seed(0)
store = Store(Path("runs/store"))

# %% [markdown]
# ## A synthetic world
# A request consists of task tokens and a text. Each task is a bijection of letters; an output is due after
# every second task. Whether a task is safe depends on the *grammar and branch that the text is sampled from*.

# %%
world = load_world("mini")
print(world.show(world.sample("unsafe", 3, seed=1000)))

# %%
pd.DataFrame(world.families.items(), columns=["family", "requests"])

# %% [markdown]
# ## Supervised safety fine-tuning
# A recipe describes how a model is trained; `build` trains what is not in the store yet. Pretraining is
# shorter here than in the study (`make reproduce`), so the model is less accurate. Seeds from 1000 on are for
# tuning and are never reported.

# %%
modes = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)
base_recipe = Recipe(
    world="mini",
    model=MODEL_SIZES["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes),
    optimisation=Optimisation(steps=1000, learning_rate=3e-3, batch_size=64),
    alignments=(),
    seed=1003,
)
ssft = Alignment(SSFT(), Optimisation(steps=300, learning_rate=1e-3, batch_size=64))
models = {
    "base": load_model(build(base_recipe, store)),
    "SSFT": load_model(build(replace(base_recipe, alignments=(ssft,)), store)),
}

# %% [markdown]
# Outcomes of free-running greedy answers on held-out texts, judged exactly. Refusal of unsafe requests is
# always reported together with over-refusal and task accuracy on safe ones.


# %%
def outcome_rates(families: list[str]) -> pd.DataFrame:
    rows = []
    for name, model in models.items():
        for family in families:
            requests = world.sample(family, 300, seed=1, split="score")
            rates = evaluate_behaviour(model, world, requests).rates
            rows.append({"model": name, "family": family, **rates})
    return pd.DataFrame(rows).set_index(["family", "model"]).round(2)


standard = outcome_rates(["safe", "unsafe"])
standard

# %% [markdown]
# ## Separation of safe and unsafe requests
# The class-mean projection τ is positive where an activation is nearer to the mean of safe requests.
# Token-matched requests have the same tasks and differ in the branch of the text. The column
# `shuffled_normalised` is the control: class means under shuffled labels.


# %%
def request_pair(safe_family: str, unsafe_family: str, split: str) -> tuple[Requests, Requests]:
    safe = world.sample(safe_family, 300, seed=2, split=split)
    return safe, world.sample(unsafe_family, 300, seed=2, split=split)


fit = request_pair("safe", "unsafe", "fit")
score = {"token-matched": request_pair("context_safe", "context_unsafe", "score")}
clusters = []
for name, model in models.items():
    rows = cluster_rows(model, fit, score, n_groups=2, seed=0)  # `mini` has two grammars
    clusters.append(pd.DataFrame(rows).assign(model=name))
separation = pd.concat(clusters).set_index(["layer", "model"])
separation[["normalised", "auroc", "shuffled_normalised"]].round(2)

# %% [markdown]
# ## Jailbreaks
# `competing_tasks_safe_branch` has competing objectives: each pair of tasks holds an unsafe task and a safe
# one. `mixed_text` has letters of both branches in its text, and `duplicate_tasks` uses the duplicates of
# unsafe tasks that the base model was pretrained on.

# %%
jailbreaks = outcome_rates(["unsafe", "competing_tasks_safe_branch", "mixed_text", "duplicate_tasks"])
jailbreaks

# %% [markdown]
# A request that is not refused is not necessarily complied with: compare `refuse` with `comply`. The study
# `jain2024` reports these rates with intervals over pretraining seeds and with its controls.

# %%
refusal = standard["refuse"].to_dict()
assert refusal["unsafe", "SSFT"] > refusal["unsafe", "base"], "safety fine-tuning should raise refusal"
