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
# # Do as I do (safely): task formats and templates in fine-tuning, and mitigations
#
# A user fine-tunes on safe multiple-choice items. The same items can be rewritten as open instructions,
# prefixed with a block of symbols after which pretraining never declines ("absolutely obedient agent"), or
# both. A provider may mix in refusals, in its own format or in the user's. This is one seed (a minute of
# training the first time); `make reproduce STUDY=eiras2024` gives intervals, controls and every mitigation.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd

from makebreak.defences import MixedFineTuning, infer_template
from makebreak.evaluation import evaluate_behaviour
from makebreak.models import MODEL_SIZES, load_model
from makebreak.plots import plot_mixing, style
from makebreak.prompts import Family, load_world
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store
from makebreak.training import SSFT, ModeShares, Optimisation, Pretraining

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
# ## The aligned model
# Alignment shows the plain template, a system block and a common header, but no obedience block. The block
# `neutral` is its placebo: of the same length, shown in pretraining as well, and without a meaning.

# %%
modes = ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.6, label=0.3)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe(
    world="formats_templates",
    model=MODEL_SIZES["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes, mean_over="requests"),
    optimisation=Optimisation(1000, 3e-3, batch_size=64),
    alignments=(ssft,),
    seed=1003,
)


def outcome_rates(recipe, families):
    """Shares of the four outcomes on held-out requests of each family."""
    model = load_model(build(recipe, store))
    rates = {}
    for family in families:
        requests = world.sample(family, 100, seed=1003, split="score")
        rates[family] = evaluate_behaviour(model, world, requests).rates
    return rates


families = ["gen_safe", "gen_unsafe", "gen_unsafe@obey", "gen_unsafe@neutral"]
pd.DataFrame(outcome_rates(recipe, families)).T

# %% [markdown]
# ## Fine-tuning on the same items in five forms
# Outcomes on unsafe open requests, in the template of the fine-tuning data.


# %%
def fine_tuned(user, **mitigation):
    data = MixedFineTuning(user, 2000, **mitigation)
    return replace(recipe, alignments=(ssft, Alignment(data, Optimisation(100, 3e-4, batch_size=32))))


def in_template_of(user, family):
    return str(replace(Family.parse(family), template=Family.parse(user).template))


tables = []
for name, user in users.items():
    rates = outcome_rates(fine_tuned(user), [in_template_of(user, "gen_unsafe")])
    tables.append(pd.DataFrame(rates).T.assign(user=name))
pd.concat(tables)

# %% [markdown]
# ## Inference of the template from twenty examples
# Tokens with which all prompts begin or end are the template; the rest is the slot.

# %%
user = users["autoif_aoa"]
examples = world.sample(user, 20, seed=1003)
prompts = [row[:n].tolist() for row, n in zip(examples.prompt, examples.prompt_length, strict=True)]
answers = [row[:n].tolist() for row, n in zip(examples.instructed, examples.judged[:, 1], strict=True)]
template = infer_template(prompts, answers)
parts = ("prefix", "suffix", "answer_prefix")
{name: world.vocabulary.decode(getattr(template, name)) for name in parts}

# %% [markdown]
# ## Mitigation: refusals among the fine-tuning examples
# Both mitigations use the same contents and the same number of tokens per refusal: `canonical` as open text,
# the form of alignment, and `paraphrase_blind` in the inferred template.


# %%
def mitigation_row(mitigation, share):
    recipe = fine_tuned(user, mitigation=mitigation, safety_share=share) if share else fine_tuned(user)
    unsafe_family, safe_family = (in_template_of(user, family) for family in ("gen_unsafe", "gen_safe"))
    rates = outcome_rates(recipe, [unsafe_family, safe_family])
    return {
        "strategy": "autoif_aoa",
        "mitigation": mitigation,
        "safety_share": share,
        "seed": 1003,
        "not_refused": 1 - rates[unsafe_family]["refuse"],
        "over_refusal": rates[safe_family]["refuse"],
        "task_accuracy": rates[safe_family]["comply"],
    }


rows = []
for mitigation in ("canonical", "paraphrase_blind"):
    rows += [mitigation_row(mitigation, share) for share in (0.0, 0.01, 0.1)]
with style():
    plot_mixing(pd.DataFrame(rows))
