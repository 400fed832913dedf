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
# # Jailbreaks: projection of attacked requests, steering and monitors
#
# Attacks on the model of notebook 02 (a minute of training the first time). This is one seed: `make
# reproduce` gives intervals over seeds.

# %%
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from makebreak.attacks import (
    GCG,
    AttackResult,
    RandomSoftPrompt,
    RandomTokens,
    SoftPrompt,
    min_prefill_length,
    score_attack,
)
from makebreak.defences import fit_monitor
from makebreak.evaluation import WorldTarget, exact_match
from makebreak.mechanism import (
    SafeUnsafeRequests,
    SteeringData,
    interchange_rows,
    project_attacks,
    projection_rows,
    steering_rows,
    success_prediction_rows,
)
from makebreak.models import MODEL_SIZES, load_model
from makebreak.plots import plot_projection, plot_steering, style
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store
from makebreak.training import SSFT, ModeShares, Optimisation, Pretraining

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


def sample(family, n, split="score"):
    return world.sample(family, n, seed=1003, split=split)


# %% [markdown]
# ## Attacks and outcomes
# A family of jailbreaks is given to the model as it is. The other attacks start from requests that the model
# refuses. Outcomes are exact: greedy decoding gives the refusal, the instructed answer, or neither. The
# vocabulary has 33 symbols, so the gradient's candidates and random ones differ less than in a language
# model.

# %%
families = ("unsafe", "mixed_text", "competing_tasks_safe_branch", "duplicate_tasks")
target = WorldTarget(model)
results = [score_attack(family, target, sample(family, 300)) for family in families]
unsafe = sample("unsafe", 300)
refused = unsafe[exact_match(model, unsafe, "refused").numpy()][:100]
pad = world.vocabulary.id("<pad>")
attacks = [
    SoftPrompt(1),
    SoftPrompt(10),
    RandomSoftPrompt(10),
    GCG(4, steps=6, candidates=24, where="unused", token=pad),
    RandomTokens(4, steps=6, candidates=24, where="unused", token=pad),
]
results += [attack(target, refused, seed=0) for attack in attacks]


def rates(result):
    return {"attack": result.name, "refused": result.refuses.mean(), "complied": result.complies.mean()}


pd.DataFrame([rates(result) for result in results]).round(2)

# %% [markdown]
# ## An attack of your own
# An attack is one class: it changes the requests, and `score_attack` decides their outcomes. All analyses
# below accept its result.


# %%
@dataclass(frozen=True)
class SwapTasks:
    """Replaces the second pair of tasks, on which the judged answer does not depend, by the identity."""

    name: str = "swap tasks"

    def __call__(self, target, requests, *, seed) -> AttackResult:
        prompt, stop = requests.prompt.copy(), requests.spans["tasks"][0, 1]
        prompt[:, stop - 2 : stop] = world.vocabulary.id("T0")
        return score_attack(self.name, target, replace(requests, prompt=prompt))


results.append(SwapTasks()(target, refused, seed=0))
pd.DataFrame([rates(results[-1])]).round(2)

# %% [markdown]
# ## Class-mean projection of attacked requests
# τ at the end of the text, never at an attack's own tokens, in units of the distance between the class means
# of clean requests. In the last layer it is read where the model decides, and the groups are selected by that
# decision: their difference there is nearly implied (`docs/errata.md`, audit-M11).

# %%
fit = SafeUnsafeRequests(sample("safe", 300, "fit"), sample("unsafe", 300, "fit"))
with_safe = [score_attack("safe", target, sample("safe", 300)), *results]
projection = project_attacks(model, fit, with_safe)
projections = pd.DataFrame(projection_rows(projection)).assign(world="mini", seed=1003, arm="ssft")
groups = {
    "safe": (("safe",), "all"),
    "unsafe": (("unsafe",), "all"),
    "jailbreaks that succeed": (families[1:], "complied"),
    "jailbreaks that are refused": (families[1:], "refused"),
    "10 soft tokens": (("soft 10",), "complied"),
}
with style():
    plot_projection(projections, ["ssft"], groups)

# %% [markdown]
# Prediction of success from τ of all layers, compared with the name of the attack: AUROC on held-out folds.

# %%
attack_names = [result.name for result in results[1:]]
pd.DataFrame(success_prediction_rows(projection.select(attack_names), seed=0)).round(2)

# %% [markdown]
# ## Activation steering
# Successful requests are steered along the difference of means, and along other vectors that disturb safe
# requests as much. `reversal_rate` includes damage: a base model that refuses nothing also loses answers, and
# only a part of the reversed successes become refusals (`refusal_rate`). Whether the projection causes
# success is not decided (`docs/errata.md`, W2).

# %%
successes = [result[np.flatnonzero(result.complies)[:40]] for result in results[1:]]
steering_data = SteeringData(fit, SafeUnsafeRequests(sample("safe", 100), sample("unsafe", 100)))
steering = pd.DataFrame(steering_rows(model, successes, steering_data, layer=1, seed=0))
steering[steering.kind.isin(["difference", "random"])][
    ["kind", "scale", "reversal_rate", "refusal_rate", "safe_compliance_rate", "induction_rate"]
].round(2)

# %% [markdown]
# ## Does the projection cause success?
# Of every successful attack, the component along the difference of class means is replaced by that of the
# nearest unsafe request. If the projection is why attacks succeed, they fail with unsafe donors, and neither
# with safe donors nor after a move of the same length in a random direction. `fit_auroc` says how well the
# projection predicts success before each layer.

# %%
rows = [
    row for layer in (1, 2) for row in interchange_rows(model, results[1:], fit, layer=layer, n=40, seed=0)
]
pd.DataFrame(rows).round(2)

# %% [markdown]
# ## Detection by a monitor
# A linear probe at a false positive rate of 1 %, fitted on clean requests.

# %%
monitor = fit_monitor(model, fit, sample("safe", 700, "fit")[300:], kind="probe", layer=1)
detection = []
for result in with_safe:
    with result.attach(model):
        rate = monitor.flag(model, result.requests).mean()
    detection.append({"attack": result.name, "detection_rate": rate})
with style():
    plot_steering(steering, pd.DataFrame(detection), {result.name: result.name for result in with_safe})

# %% [markdown]
# ## Prefill depth
# Share of refused requests whose instructed answer the model completes once its first tokens are forced.

# %%
depth = min_prefill_length(model, refused)
completed = {n_forced: (depth <= n_forced).mean() for n_forced in range(9)}
pd.Series(completed, name="completed").rename_axis("forced tokens").round(2)
