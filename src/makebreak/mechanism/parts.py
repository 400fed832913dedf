"""Which parts of the network carry the change: embedding, attention or MLP, in which layer?

A part of the update is worth what it adds to the refusal margin: alone, beside all others, and, in between, on average
over the orders in which parts can be put in (Shapley). Heads and MLPs are also patched one at a time, and by the first
order of it (attribution patching), which is held against the exact patch.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, capture, intervene, on_units, run, set_to
from makebreak.behaviour import batches, decide, first_tokens, log_odds, prompts
from makebreak.models import mixed, n_layers, part_names
from makebreak.requests import Requests


def part_rows(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Requests,
    *,
    answer: str = "refused",
    orders: int = 8,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per part, shares of the margin that the whole update gives; the Shapley values add up to 1.

    alone: this part aligned, the others the base's. beside: what is lost where this part is the base's. shapley: mean
    over `orders` random orders and their reverses, with its standard error over these pairs. All are None where the
    update gives no margin.
    """
    parts, target = part_names(base), first_tokens(requests, answer)

    def margin(aligned: frozenset[str]) -> float:
        made = mixed(base, model, dict.fromkeys(aligned, 1.0))
        return float(log_odds(decide(made, requests), target).mean())

    none, every = margin(frozenset()), margin(frozenset(parts))
    alone = {part: margin(frozenset([part])) - none for part in parts}
    beside = {part: every - margin(frozenset(parts) - {part}) for part in parts}
    random = np.random.default_rng(seed)
    pairs: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(orders):
        order = [parts[i] for i in random.permutation(len(parts))]
        gains = dict.fromkeys(parts, 0.0)
        for sequence in (order, order[::-1]):
            values = [none, *(margin(frozenset(sequence[:k])) for k in range(1, len(parts))), every]
            for part, before, after in zip(sequence, values, values[1:], strict=False):
                gains[part] += (after - before) / 2
        for part, gain in gains.items():
            pairs[part].append(gain)
    whole = every - none
    rows = []
    for part in parts:
        found = {"alone": alone[part], "beside": beside[part], "shapley": float(np.mean(pairs[part]))}
        found["shapley_error"] = (
            float(np.std(pairs[part], ddof=1) / len(pairs[part]) ** 0.5) if orders > 1 else np.nan
        )
        rows.append(
            {"part": part} | {k: v / whole if whole and np.isfinite(v) else None for k, v in found.items()}
        )
    return rows


def patch_rows(
    model: PreTrainedModel, base: PreTrainedModel, requests: Requests, *, answer: str = "refused"
) -> list[dict[str, Any]]:
    """One row per head and MLP: the share of the margin that the base gains where this one part's output is the aligned
    model's, at all positions. exact: by patching; attributed: to first order, (a_aligned - a_base) · ∂margin/∂a."""
    units = _units(base)
    exact, first = torch.zeros(len(units), dtype=torch.float64), torch.zeros(len(units), dtype=torch.float64)
    whole, target, start = 0.0, first_tokens(requests, answer), 0
    for part in batches(requests):
        goal = target[start : start + len(part)]
        start += len(part)
        tokens, last = prompts(part)
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        sites = list(dict.fromkeys(site for site, _ in units))
        own, other = (next(iter(capture(m, tokens, sites, everywhere))).at for m in (base, model))
        gradients = _gradients(base, tokens, last, goal, sites, own)
        before, after = (float(log_odds(decide(m, part), goal).sum()) for m in (base, model))
        whole += after - before
        for i, (site, columns) in enumerate(units):
            change = (other[site] - own[site])[:, columns].double()
            first[i] += float((change * gradients[site][:, columns].double()).sum())
            with intervene(base, site, on_units(columns, set_to(other[site][:, columns])), everywhere):
                exact[i] += float(log_odds(decide(base, part), goal).sum()) - before
    names = [_name(site, columns) for site, columns in units]
    shares = [(exact / whole).tolist(), (first / whole).tolist()] if whole else [[None] * len(units)] * 2
    return [{"part": n, "exact": e, "attributed": a} for n, e, a in zip(names, *shares, strict=True)]


def _units(model: PreTrainedModel) -> list[tuple[str, slice]]:
    heads, d = int(model.config.num_attention_heads), int(model.config.hidden_size)
    width = int(getattr(model.config, "head_dim", None) or d // heads)
    found = []
    for layer in range(n_layers(model)):
        found += [(f"blocks.{layer}.attn.hook_z", slice(h * width, (h + 1) * width)) for h in range(heads)]
        found.append((f"blocks.{layer}.hook_mlp_out", slice(0, d)))
    return found


def _name(site: str, columns: slice) -> str:
    block = site.rsplit(".", 2)[0] if "attn" in site else site.rsplit(".", 1)[0]
    return (
        f"{block}.head.{columns.start // (columns.stop - columns.start)}"
        if "attn" in site
        else f"{block}.mlp"
    )


def _gradients(
    model: PreTrainedModel, tokens: Tensor, last: Tensor, goal: Tensor, sites: list[str], like: Any
) -> dict[str, Tensor]:
    """site → ∂(sum of margins)/∂activation, (batch · pos, d)."""
    moves = {site: torch.zeros_like(like[site], requires_grad=True) for site in sites}
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(intervene(model, site, add(moves[site])))
        log_p = run(model, tokens).logits[torch.arange(len(last)), last].log_softmax(-1)
    margin = log_odds(log_p, goal).sum()
    return dict(zip(sites, torch.autograd.grad(margin, list(moves.values())), strict=True))
