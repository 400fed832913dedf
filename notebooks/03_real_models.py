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
# # Language models from Python
#
# The steps of `makebreak inspect`. `make smollm` downloads SmolLM2-135M-Instruct; without it a tiny untrained
# model is used, so that everything runs. The untrained model refuses nothing, and its numbers mean nothing.

# %%
from pathlib import Path

import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from makebreak.activations import capture
from makebreak.evaluation import (
    JUDGES,
    first_tokens,
    generate_texts,
    is_degenerate,
    log_odds,
    next_token_log_probs,
)
from makebreak.mechanism import (
    DirectionSettings,
    SafeUnsafeRequests,
    ablate_directions,
    cluster_rows,
    direction_rows,
    refusal_direction,
)
from makebreak.models import LanguageModel, ModelConfig, create_model, n_layers, open_model
from makebreak.plots import plot_class_separation, style
from makebreak.prompts import evaluation_prompts, span_mask, text_requests
from makebreak.stats import auroc_interval
from makebreak.store import Store

prompts, store = evaluation_prompts(), Store(Path("runs/store"))
model_files = sorted(Path("runs/models").glob("*.gguf"))
if model_files:
    lm = open_model(model_files[0], store=store)
else:
    byte_pairs = ByteLevelBPETokenizer()
    all_prompts = [text for texts in prompts.values() for text in texts]
    byte_pairs.train_from_iterator(all_prompts, vocab_size=600)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_pairs._tokenizer, eos_token="!", pad_token="!")
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:"
    config = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    untrained = create_model(config, d_vocab=len(tokenizer), n_ctx=128, seed=0).eval()
    lm = LanguageModel("untrained model", untrained, tokenizer)
model, tokenizer = lm.model, lm.tokenizer
print(lm.name.rsplit("/", 1)[-1], n_layers(model), "layers")

# %% [markdown]
# ## Requests and refusal margins
# Requests are tokens with spans: the request itself, and the last token of the prompt. The refusal margin,
# the log-odds that the answer begins with a refusal, takes one forward pass.

# %%
requests, margins = {}, {}
for family in ("harmless", "harmful"):
    batch = text_requests(tokenizer, prompts[family][:48], family=family, unsafe=family == "harmful")
    margin = log_odds(next_token_log_probs(model, batch), first_tokens(batch, "refused"))
    requests[family], margins[family] = batch, margin.numpy()
pd.DataFrame(margins).describe().loc[["mean", "min", "max"]].round(2)

# %% [markdown]
# Answers to eight harmful requests, whether they are degenerate, and whether each judge calls them a refusal:

# %%
harmful = requests["harmful"][:8]
texts = harmful.truth["request"].tolist()
answers = generate_texts(lm, harmful, n_new=16)
verdicts = {name: judge(texts, answers) for name, judge in JUDGES.items()}
pd.DataFrame({"request": texts, "answer": answers, "degenerate": is_degenerate(answers), **verdicts})

# %% [markdown]
# ## Separation of harmful and harmless requests
# Class means are fitted on one half of the requests, and the other half is scored. The interval of the AUROC
# is over requests: this is one model.

# %%
fit, score = (
    SafeUnsafeRequests(requests["harmless"][half::2], requests["harmful"][half::2]) for half in (0, 1)
)
clusters = pd.DataFrame(cluster_rows(model, fit, {"harmful and harmless": score}, seed=0))
intervals = [auroc_interval(auroc, len(score.safe), len(score.unsafe)) for auroc in clusters.auroc]
clusters[["auroc_low", "auroc_high"]] = intervals
with style():
    plot_class_separation(clusters)

# %% [markdown]
# ## Refusal direction
# Every candidate is a difference of means at one layer; the column `reason` says why it is rejected.

# %%
few = SafeUnsafeRequests(score.safe[:8], score.unsafe[:8])
candidates = pd.DataFrame(direction_rows(model, fit, few, settings=DirectionSettings(controls=False), seed=0))
candidates[["layer", "bypass", "induce", "kl", "reason"]].round(2).head(8)

# %% [markdown]
# ## Activations and interventions
# Any site by its TransformerLens name, and any intervention by a hook. The mean refusal margin on the eight
# harmful requests, before and after the ablation of a difference of means at half depth:

# %%
layer = n_layers(model) // 2
site = f"blocks.{layer}.hook_resid_pre"
states = next(capture(model, torch.from_numpy(harmful.prompt), [site], span_mask(harmful, "eot")))
direction = refusal_direction(model, fit, layer)
with ablate_directions(model, (direction / direction.norm())[:, None]):
    ablated = log_odds(next_token_log_probs(model, harmful), first_tokens(harmful, "refused"))
print("activations:", tuple(states.activations[site].shape))
print(f"refusal margin: {margins['harmful'][:8].mean():.2f} nats, ablated {ablated.mean():.2f} nats")
