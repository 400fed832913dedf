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
# # Mechanisms of safety fine-tuning: geometry of the update, and how refusal arises
#
# A base model and a model fine-tuned from it, both small enough for a laptop (a minute of training the first
# time). Pretraining is shorter than in the study, and this is one seed: `make reproduce` gives intervals and
# controls.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from makebreak.activations import (
    activations_from_nnsight,
    activations_from_transformer_lens,
    add,
    capture,
    intervene,
    nnsight_view,
    transformer_lens_view,
)
from makebreak.evaluation import evaluate_behaviour, first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism import (
    ChangedRequests,
    LabelledRequests,
    SafeUnsafeRequests,
    ablate_directions,
    compare,
    direction_rows,
    harm_refusal_rows,
    localisation_rows,
    matched_steering_rows,
    refusal_rank_rows,
)
from makebreak.models import MODEL_SIZES, extrapolate_weights, load_model
from makebreak.plots import plot_stitching, plot_updates, style
from makebreak.prompts import OUTCOMES, load_world, span_mask
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store
from makebreak.training import SSFT, ModeShares, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("mini")
modes = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)
recipe = Recipe(
    world="mini",
    model=MODEL_SIZES["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes),
    optimisation=Optimisation(1000, 3e-3, batch_size=64),
    alignments=(),
    seed=1003,
)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
base = load_model(build(recipe, store))
aligned = load_model(build(replace(recipe, alignments=(ssft,)), store))

# %% [markdown]
# ## Comparison of the two models
# Held-out requests by family, then one call: tables of rows, and a verdict on how the aligned model comes to
# refuse. Definitions, and how often the rule is right on networks with a known mechanism, are in
# `docs/concepts/mechanisms.md`.

# %%
families = ("safe", "unsafe", "context_safe", "context_unsafe")
requests = {family: world.sample(family, 300, seed=2, split="score") for family in families}
changed = ChangedRequests(requests["unsafe"], unchanged=requests["safe"])
comparison = compare(requests, base=base, tuned=aligned, changed_requests=changed)
tables = {name: pd.DataFrame(rows) for name, rows in comparison.tables.items()}
print(comparison.verdict.mechanism, "-", comparison.verdict.reason)
tables["mechanisms"].round(2)

# %% [markdown]
# ## Stitching
# Both networks are cut at every layer, and the lower layers of one are run into the upper layers of the
# other. `lower_share`: the gain in the probability of the refusal with the aligned lower layers and the
# base's upper layers, as a share of the whole gain; `upper_share`: the other way round; `random_share`: the
# base after a random movement of equal norm. `kl_share`: what the movement does to the base, as a share of
# what alignment does; `fisher_gain`: the same to first order, in units of a random direction.

# %%
columns = [
    "layer",
    "lower_share",
    "random_share",
    "upper_share",
    "kl_share",
    "fisher_gain",
]
tables["stitching"][columns].round(2)

# %%
with style():
    plot_stitching(tables["stitching"].assign(seed=0, arm="ssft"), ["ssft"])

# %% [markdown]
# ## Column space (Fig. 4 of Jain et al. 2024) and read gain (Fig. 5) of the update
# `sine` is near 1 where the leading output directions of ΔW lie in the left null space of W; those of a
# random update (`haar`) lie there too, so the two are compared. `row_sine`, the left panel below, is the
# statistic of the released script: 0 without an update, and of the tuned matrix rather than of ΔW
# (`docs/errata.md`, W1).

# %%
updates = tables["updates"].query("matrix == 'mlp.W_in'")
sines = updates.pivot(index="layer", columns="against", values="sine")
sines.assign(row_sine=updates.groupby("layer").row_sine.max()).round(3)

# %%
labelled_tables = {name: tables[name].assign(seed=0, arm="ssft") for name in ("updates", "read_gain")}
with style():
    plot_updates(
        labelled_tables["updates"], labelled_tables["read_gain"], ["ssft"], {"ssft": ("safe", "unsafe")}
    )

# %% [markdown]
# ## Decomposition of the change of pre-activations
# `input_share`: the changed input, due to earlier layers, through the base's weights. `update_share`: ΔW on
# the base's input. The four shares add up to 1.

# %%
tables["preactivations"].query("family == 'unsafe'").round(2)

# %% [markdown]
# ## Sensitivity (Fig. 6) and extrapolation along ΔW
# Medians over requests of the aligned model, of the base and of their ratio. The greatest logit is the
# published output; its log-probability does not depend on the scale of the logits.

# %%
tables["sensitivity"].round(2)

# %% [markdown]
# Refusal margin on unsafe requests (log-odds of the null token) of the base's weights plus α·ΔW:

# %%
null_token = first_tokens(requests["unsafe"], "refused")
margins = {}
for alpha in (0, 0.5, 1, 1.5):
    extrapolated = extrapolate_weights(alpha, base=base, tuned=aligned)
    log_probs = next_token_log_probs(extrapolated, requests["unsafe"])
    margins[alpha] = float(log_odds(log_probs, null_token).mean())
pd.Series(margins, name="margin, nats").rename_axis("alpha").round(2)

# %% [markdown]
# ## Localisation
# Shares of the refusal margin by component: only this component aligned (leave-one-in), all but this
# component (leave-one-out), and Shapley values, which add up to 1. Eleven components are too many for all
# orders; `shapley_low` to `shapley_high` is a 95 % interval over eight pairs of an order and its reverse.

# %%
contributions = localisation_rows(requests["unsafe"], base=base, tuned=aligned, seed=0)
pd.DataFrame(contributions).set_index("part").round(2)

# %% [markdown]
# ## Refusal directions
# Differences of means, evaluated by ablation and addition, with shuffled labels and a random direction as
# controls.

# %%
fit = SafeUnsafeRequests(*(world.sample(family, 300, seed=2, split="fit") for family in ("safe", "unsafe")))
score = SafeUnsafeRequests(requests["safe"], requests["unsafe"])
directions = pd.DataFrame(direction_rows(aligned, fit, score, seed=0))
directions.drop(columns="is_selected").round(2)

# %% [markdown]
# The number of directions that are ablated until fewer than half of the unsafe requests are refused. It is an
# upper bound of the rank (`docs/errata.md`, T9).

# %%
pd.DataFrame(refusal_rank_rows(aligned, fit, requests["unsafe"], seed=0)).round(2)

# %% [markdown]
# ## Harm and refusal as two labels
# Successful jailbreaks are unsafe and not refused, so the two labels differ. Each direction is scored among
# requests with the other label fixed, with the 95th percentile of shuffled labels as a control.

# %%
labelled_families = ("safe", "unsafe", "mixed_text", "competing_tasks_safe_branch", "duplicate_tasks")
labelled = {}
for family in labelled_families:
    sample = world.sample(family, 300, seed=2, split="score")
    outcomes = evaluate_behaviour(aligned, world, sample).outcomes
    labelled[family] = LabelledRequests(sample, outcomes == OUTCOMES.index("refuse"))
pd.DataFrame(harm_refusal_rows(aligned, labelled, seed=0)).round(2)

# %% [markdown]
# ## Activation steering at matched KL
# Vectors that are added at the end of text before block 1, scaled so that all of them disturb safe requests
# by the same KL.

# %%
steering = pd.DataFrame(matched_steering_rows(aligned, fit, score, layer=1, seed=0))
steering[["kind", "kl", "unsafe_baseline", "unsafe_margin", "safe_baseline", "safe_margin"]].round(2)

# %% [markdown]
# ## Activations and interventions
# A site has its TransformerLens name; a position is a span of the request. Interventions can be nested, and
# are removed at the end of their context.

# %%
tokens = torch.from_numpy(requests["unsafe"].prompt)
end_of_text = span_mask(requests["unsafe"], "eot")
site = "blocks.2.hook_resid_pre"
states = {}
for name, model in (("base", base), ("aligned", aligned)):
    states[name] = next(capture(model, tokens, [site], end_of_text)).activations[site]
movement = (states["aligned"] - states["base"]).mean(dim=0)
with intervene(base, site, add(movement), end_of_text):
    steered = log_odds(next_token_log_probs(base, requests["unsafe"]), null_token).mean()
with ablate_directions(aligned, (movement / movement.norm())[:, None]):
    ablated = log_odds(next_token_log_probs(aligned, requests["unsafe"]), null_token).mean()
print(f"base plus the mean movement at the last position: {steered:.2f} nats")
print(f"aligned model without that direction: {ablated:.2f} nats")

# %% [markdown]
# ## TransformerLens and nnsight
# The same weights give the same activations, under the same names.

# %%
batch = tokens[:4]
from_lens = activations_from_transformer_lens(aligned, batch, [site])[site]
from_nnsight = activations_from_nnsight(aligned, batch, [site])[site]
all_positions = torch.ones_like(batch, dtype=torch.bool)
captured = next(capture(aligned, batch, [site], all_positions)).activations[site]
captured = captured.unflatten(0, batch.shape)
assert torch.allclose(captured, from_lens, atol=1e-4)
assert torch.allclose(captured, from_nnsight, atol=1e-4)
_, cache = transformer_lens_view(aligned).run_with_cache(batch, prepend_bos=False)
print(cache["blocks.2.attn.hook_pattern"].shape, type(nnsight_view(aligned)).__name__)
