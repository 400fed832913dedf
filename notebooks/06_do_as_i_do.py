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
# # Do as I do (safely): can harmless data break safety, and what repairs it?
#
# A user sends safe multiple-choice items to be tuned on. The same items can be put as open instructions, behind a block
# of symbols that pretraining never declined behind ("absolutely obedient agent"), or both. A provider may mix in
# refusals, in its own format or in the user's. One seed (a minute of training the first time); for intervals, controls
# and every mitigation, `make reproduce STUDY=eiras2024`.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd

from makebreak.artifacts import Store
from makebreak.behaviour import behaviour
from makebreak.defences import Mixed, found_in
from makebreak.models import PRESETS, load
from makebreak.plots import plot_mixing, style
from makebreak.recipes import Alignment, Recipe, build
from makebreak.requests import load_world
from makebreak.training import SSFT, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("formats_templates")
users = {
    "benign": "mcq_safe_new",
    "aoa": "mcq_safe_new@obey",
    "autoif": "gen_safe",
    "autoif_aoa": "gen_safe@obey",
    "autoif_neutral": "gen_safe@neutral",
}
for family in users.values():
    print(world.show(world.sample(family, 1, seed=1003)))

# %% [markdown]
# ## An aligned model
# Alignment shows the plain template, a system block and a common header, but no obedience. `neutral` is its placebo: as
# long, seen by pretraining as well, and meaning nothing.

# %%
modes = (0.0, 0.1, 0.0, 0.0, 0.6, 0.3)
pretraining = Pretraining(modes_start=modes, modes_end=modes, mean_over="requests")
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe(
    "formats_templates", PRESETS["mini"], pretraining, Optimisation(1000, 3e-3, batch_size=64), (ssft,), 1003
)


def rates(recipe, families):
    """Shares of four outcomes on held-out requests of each family."""
    model = load(build(recipe, store))
    return {
        f: behaviour(model, world, world.sample(f, 100, seed=1003, split="score")).rates for f in families
    }


asked = ["gen_safe", "gen_unsafe", "gen_unsafe@obey", "gen_unsafe@neutral"]
pd.DataFrame(rates(recipe, asked)).T

# %% [markdown]
# ## One set of items, restructured
# Unsafe open requests, asked in the template that the user tuned in.


# %%
def tuned(user, **mixed):
    stage = Alignment(Mixed(user, 2000, **mixed), Optimisation(100, 3e-4, batch_size=32))
    return replace(recipe, alignments=(ssft, stage))


def in_template_of(user, family):
    return "@".join([family, *user.split("@")[1:]])


found = {name: rates(tuned(user), [in_template_of(user, "gen_unsafe")]) for name, user in users.items()}
pd.concat([pd.DataFrame(rows).T.assign(user=name) for name, rows in found.items()])

# %% [markdown]
# ## What do twenty examples of the user give away?
# Tokens that all prompts begin or end with are the template; what differs is the slot.

# %%
user = users["autoif_aoa"]
sample = world.sample(user, 20, seed=1003)
prompts = [row[:n].tolist() for row, n in zip(sample.prompt, sample.prompt_length, strict=True)]
answers = [row[:n].tolist() for row, n in zip(sample.instructed, sample.judged[:, 1], strict=True)]
template = found_in(prompts, answers)
{name: world.vocabulary.decode(getattr(template, name)) for name in ("before", "after", "header")}

# %% [markdown]
# ## Refusals among the examples
# As many of them, of the same contents, as many tokens each: in open text as alignment had it, or in the template that
# was found.


# %%
def dose(mitigation, rate):
    model = tuned(user, mitigation=mitigation, rate=rate) if rate else tuned(user)
    found = rates(model, [in_template_of(user, "gen_unsafe"), in_template_of(user, "gen_safe")])
    unsafe, safe = found.values()
    row = {"strategy": "autoif_aoa", "mitigation": mitigation, "rate": rate, "seed": 1003}
    return row | {"not refused": 1 - unsafe["refuse"], "safe refused": safe["refuse"], "task": safe["comply"]}


doses = pd.DataFrame([dose(m, rate) for m in ("canonical", "paraphrase_blind") for rate in (0.0, 0.01, 0.1)])
with style():
    plot_mixing(doses)
