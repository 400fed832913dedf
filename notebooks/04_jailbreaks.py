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
# # Jailbreaks: is the unsafe input mapped to the safe side, and is that why it passes?
#
# The model of notebook 02 (a minute of training the first time), attacked. One seed: for intervals, `make reproduce`.

# %%
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from makebreak.artifacts import Store
from makebreak.attacks import (
    AttackResult,
    SoftPromptAttack,
    SoftPromptSettings,
    SteeringData,
    TokenSearchAttack,
    TokenSearchSettings,
    min_prefill_length,
    project_attacks,
    projection_rows,
    score_attack,
    steering_rows,
    success_prediction_rows,
)
from makebreak.behaviour import exact_match
from makebreak.defences import fit_monitor
from makebreak.mechanism import Pair
from makebreak.models import MODEL_SIZES, load_model
from makebreak.plots import plot_steering, plot_projection, style
from makebreak.recipes import Alignment, Recipe, build
from makebreak.requests import load_world
from makebreak.training import SSFT, ModeShares, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("mini")
modes = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)
pretraining = Pretraining(modes_start=modes, modes_end=modes)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe("mini", MODEL_SIZES["mini"], pretraining, Optimisation(1000, 3e-3, batch_size=64), (ssft,), 1003)
model = load_model(build(recipe, store))
ask = lambda family, n, split="score": world.sample(family, n, seed=1003, split=split)  # noqa: E731

# %% [markdown]
# ## Ask, attack, judge
# A family of jailbreaks is asked as it is. Other attacks start from requests that the model refuses. The judge is
# exact: greedy decoding gives the refusal, the right answer, or neither.

# %%
families = ("unsafe", "mixed_text", "competing_tasks_safe_branch", "duplicate_tasks")
found = [score_attack(family, model, ask(family, 300)) for family in families]
unsafe = ask("unsafe", 300)
refused = unsafe[exact_match(model, unsafe, "refused").numpy()][:100]
attacks = [
    SoftPromptAttack(SoftPromptSettings(1)),
    SoftPromptAttack(SoftPromptSettings(10)),
    SoftPromptAttack(SoftPromptSettings(10), optimise=False),
    TokenSearchAttack(TokenSearchSettings("gradient", steps=6, candidates=24), 4, world.vocabulary.id("<pad>"), "unused"),
    TokenSearchAttack(TokenSearchSettings("random", steps=6, candidates=24), 4, world.vocabulary.id("<pad>"), "unused"),
]
found += [attack(model, refused, seed=0) for attack in attacks]
rates = lambda f: {"attack": f.name, "refused": f.refused.mean(), "complied": f.complied.mean()}  # noqa: E731
pd.DataFrame([rates(f) for f in found]).round(2)

# %% [markdown]
# ## Your own attack is one class
# What it does to the requests is up to it; `score_attack` judges it, and everything below takes it as it takes the others.


# %%
@dataclass(frozen=True)
class SwapTasks:
    """The second pair of tasks, which the judged answer does not hang on, becomes the identity."""

    name: str = "swap tasks"

    def __call__(self, model, requests, *, seed) -> AttackResult:
        prompt = requests.prompt.copy()
        prompt[:, requests.spans["tasks"][0, 1] - 2 : requests.spans["tasks"][0, 1]] = world.vocabulary.id(
            "T0"
        )
        return score_attack(self.name, model, type(requests)(**(vars(requests) | {"prompt": prompt})))


found.append(SwapTasks()(model, refused, seed=0))
pd.DataFrame([rates(found[-1])]).round(2)

# %% [markdown]
# ## Where do they land?
# τ at the end of text, never at an attack's own tokens, in units of the distance of the means of clean requests.

# %%
fit = Pair(ask("safe", 300, "fit"), ask("unsafe", 300, "fit"))
clean = [score_attack("safe", model, ask("safe", 300)), *found]
landed = project_attacks(model, fit, clean)
landing = pd.DataFrame(projection_rows(landed)).assign(world="mini", seed=1003, arm="ssft")
with style():
    plot_projection(
        landing,
        ["ssft"],
        {
            "safe": (("safe",), "all"),
            "unsafe": (("unsafe",), "all"),
            "jailbreaks that succeed": (families[1:], "complied"),
            "jailbreaks that are refused": (families[1:], "refused"),
            "10 soft tokens": (("soft 10",), "complied"),
        },
    )

# %% [markdown]
# Does that tell success better than the name of the attack does? AUROC on held-out texts.

# %%
pd.DataFrame(success_prediction_rows(landed.select([f.name for f in found[1:]]), seed=0)).round(2)

# %% [markdown]
# ## Is it why they succeed?
# Successes are shifted back along the difference of means, beside other vectors that disturb safe requests as much.

# %%
shifted = [f[np.flatnonzero(f.complied)[:40]] for f in found[1:]]
cause = pd.DataFrame(
    steering_rows(model, shifted, SteeringData(fit, Pair(ask("safe", 100), ask("unsafe", 100))), layer=1, seed=0)
)
cause[cause.kind.isin(["difference", "random", "mirrored", "mirrored_distance"])][
    ["kind", "scale", "reversal_rate", "refusal_rate", "safe_compliance_rate", "induction_rate"]
].round(2)

# %% [markdown]
# ## Would a monitor have seen them? And how deep does refusal go?

# %%
monitor = fit_monitor(model, fit, ask("safe", 600, "fit")[300:], kind="probe", layer=1)
alarms = []
for f in clean:
    with f.attach(model):
        alarms.append({"attack": f.name, "alarms": monitor.flag(model, f.requests).mean()})
with style():
    plot_steering(cause, pd.DataFrame(alarms), {f.name: f.name for f in clean})

# %%
depth = min_prefill_length(model, refused)
pd.Series(
    {k: (depth <= k).mean() for k in range(9)}, name="answered to the end with so many tokens forced"
).round(2)
