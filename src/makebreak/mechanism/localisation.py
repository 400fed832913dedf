"""Localisation of the change: contributions of the network's components to the refusal margin.

A component of the update is worth what it adds to the margin: by itself (leave-one-in), last of all
(leave-one-out), and on average over the orders in which components can be added (Shapley value). Single heads
and MLPs are also patched, exactly and to first order (attribution patching).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import (
    add,
    capture,
    forward,
    intervene,
    logits_at_last,
    on_units,
    patch,
    run_blocks,
    states_after,
)
from makebreak.architectures import head_size
from makebreak.evaluation import batches, first_tokens, log_odds, next_token_log_probs, prompt_tokens
from makebreak.mechanism.shapley import MIN_PAIRS, ShapleyDesign
from makebreak.models import check_same_shapes, interpolate_weights, n_layers, part_names, part_of
from makebreak.prompts import Requests


class LocalisationRow(NamedTuple):
    """Contribution of one component, as shares of the whole update's margin; None if that is zero."""

    part: str
    """Component, such as `embed`, `blocks.0.attn`, `blocks.0.mlp_in` or `blocks.0.mlp_gate`."""
    only: float | None
    """Leave-one-in: the margin with only this component aligned."""
    without: float | None
    """Leave-one-out: the margin that is lost where only this component is the base's."""
    shapley: float | None
    """Shapley value, the mean marginal contribution over orders of the components; all sum to 1. Exact where
    at most `MAX_ENUMERATED_PARTS` components differ, else estimated from random orders and their reverses."""
    shapley_se: float | None
    """Standard error over pairs of an order and its reverse; 0 if exact."""
    shapley_low: float | None
    """Lower end of the 95 % Student interval over the pairs; the value itself if exact."""
    shapley_high: float | None
    """Upper end of that interval."""


class PatchingRow(NamedTuple):
    """Patching of one head or MLP, as shares of the aligned model's gain in margin; None if it has none."""

    part: str
    """Head or MLP, such as `blocks.0.head.1` or `blocks.0.mlp`."""
    exact: float | None
    """Gain of the base where this output is the aligned model's, at all positions."""
    attribution: float | None
    """The gain to first order: (a_aligned - a_base) · ∂margin/∂a."""


def localisation_rows(
    requests: Requests,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    answer: str = "refused",
    n_pairs: int = MIN_PAIRS,
    seed: int,
) -> list[LocalisationRow]:
    """Contributions of every component of the update to the margin of an answer.

    Components whose weights are equal in both models contribute nothing and cost nothing.

    Args:
        requests: Requests whose answer alignment changed.
        base: The model before alignment.
        tuned: The model after it.
        answer: The answer whose first token is scored, `refused` or `instructed`.
        n_pairs: Pairs of a random order and its reverse for the Shapley values, at least `MIN_PAIRS`; not
            used where they are exact.
        seed: Seed of the orders.

    Returns:
        One row per component.

    Raises:
        ValueError: If there are fewer than `MIN_PAIRS` pairs.
    """
    check_same_shapes(base=base, tuned=tuned)
    target, hybrids = first_tokens(requests, answer), _Hybrids.create(base, tuned)
    changed = [part for part in part_names(base) if hybrids.is_changed(part)]
    nothing, whole = frozenset[str](), frozenset(changed)
    design = ShapleyDesign.create(changed, n_pairs=n_pairs, seed=seed)
    subsets = design.coalitions | {nothing, whole} | {frozenset([part]) for part in changed}
    subsets |= {whole - {part} for part in changed}
    margin = _margins(hybrids, subsets, requests, target)
    total, values = margin[whole] - margin[nothing], design.evaluate(margin)
    rows = []
    for part in part_names(base):
        if not total:
            rows.append(LocalisationRow(part, None, None, None, None, None, None))
        elif part not in whole:
            rows.append(LocalisationRow(part, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
        else:
            only = (margin[frozenset([part])] - margin[nothing]) / total
            without = (margin[whole] - margin[whole - {part}]) / total
            value = values[part]
            low, high = sorted((value.low / total, value.high / total))
            error = value.standard_error / abs(total)
            rows.append(LocalisationRow(part, only, without, value.mean / total, error, low, high))
    return rows


@dataclass(frozen=True)
class _Hybrids:
    """A model that shares the weights of two models, part by part."""

    hybrid: PreTrainedModel
    levels: list[frozenset[str]]
    """Parts of every block; the embedding belongs to the first, the unembedding to the last."""
    weights: dict[str, list[tuple[Tensor, Tensor, Tensor]]]
    """Weights of the hybrid, the base and the other model by part."""

    @classmethod
    def create(cls, base: PreTrainedModel, other: PreTrainedModel) -> _Hybrids:
        """A hybrid with the weights of the base; raises ValueError if the models' shapes differ."""
        if base.config.tie_word_embeddings:
            interpolate_weights({"embed": 1.0}, base=base, other=other)  # names the reason why it cannot be
        hybrid = interpolate_weights({}, base=base, other=other)
        names = [
            {part for part in part_names(base) if part.startswith(f"blocks.{layer}.")}
            for layer in range(n_layers(base))
        ]
        names[0].add("embed")
        names[-1].add("unembed")
        weights: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        of_base, of_other = dict(base.named_parameters()), dict(other.named_parameters())
        for name, weight in hybrid.named_parameters():
            weights.setdefault(part_of(base, name), []).append(
                (weight, of_base[name], of_other[name].to(weight.device))
            )
        return cls(hybrid, [frozenset(level) for level in names], weights)

    def is_changed(self, part: str) -> bool:
        """Whether a weight of a part differs between the base and the other model."""
        return any(not torch.equal(base, other) for _, base, other in self.weights.get(part, ()))

    def share(self, level: int, others: Collection[str]) -> None:
        """Gives the parts of a level the other model's weights where they are among `others`."""
        for part in self.levels[level]:
            for weight, base, other in self.weights.get(part, ()):
                weight.data = (other if part in others else base).data


def _margins(
    hybrids: _Hybrids, subsets: Collection[frozenset[str]], requests: Requests, target: Tensor
) -> dict[frozenset[str], float]:
    """Mean margin of every hybrid by the parts that are the other model's."""
    sums, start = dict.fromkeys(subsets, 0.0), 0
    with torch.no_grad():
        for batch in batches(requests, hybrids.hybrid):
            goal = target[start : start + len(batch)]
            start += len(batch)
            for subset, log_p in _decisions(hybrids, batch, subsets):
                sums[subset] += float(log_odds(log_p, goal).sum())
    return {subset: value / len(requests) for subset, value in sums.items()}


def _decisions(
    hybrids: _Hybrids,
    batch: Requests,
    subsets: Collection[frozenset[str]],
    level: int = 0,
    states: Tensor | None = None,
) -> Iterator[tuple[frozenset[str], Tensor]]:
    """Next-token log-probabilities of every hybrid; those that agree up to a block share the pass up to it.

    All `subsets` agree below the block `level`, where `states` are the hybrid's; None for the embeddings.
    """
    groups: dict[frozenset[str], list[frozenset[str]]] = {}
    for subset in subsets:
        groups.setdefault(subset & hybrids.levels[level], []).append(subset)
    for others, group in groups.items():
        hybrids.share(level, others)
        if level < len(hybrids.levels) - 1:
            after = states_after(hybrids.hybrid, prompt_tokens(batch)[0], level, states)
            yield from _decisions(hybrids, batch, group, level + 1, after)
        else:
            with run_blocks(hybrids.hybrid, level, states=states):
                log_p = next_token_log_probs(hybrids.hybrid, batch, narrow=True)
            yield group[0], log_p


def activation_patching_rows(
    requests: Requests, *, base: PreTrainedModel, tuned: PreTrainedModel, answer: str = "refused"
) -> list[PatchingRow]:
    """Patches the output of every head and MLP of the base with the aligned model's, at all positions.

    Args:
        requests: Requests whose answer alignment changed.
        base: The model before alignment, whose outputs are patched.
        tuned: The model after it.
        answer: The answer whose first token is scored.

    Returns:
        One row per head and MLP.
    """
    check_same_shapes(base=base, tuned=tuned)
    units = _units(base)
    sites = list(dict.fromkeys(site for site, _ in units))
    exact = torch.zeros(len(units), dtype=torch.float64)
    first_order = torch.zeros(len(units), dtype=torch.float64)
    total, target, start = 0.0, first_tokens(requests, answer), 0
    for part in batches(requests, tuned):
        goal = target[start : start + len(part)]
        start += len(part)
        tokens, last = prompt_tokens(part)
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        inputs = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(base))]
        [base_batch] = capture(base, tokens, [*sites, *inputs], everywhere, batch_size=len(tokens))
        [batch] = capture(tuned, tokens, sites, everywhere, batch_size=len(tokens))
        base_outputs, outputs = base_batch.activations, batch.activations
        gradients = _gradients(base, (tokens, last), goal, sites, base_outputs)
        before = float(log_odds(next_token_log_probs(base, part), goal).sum())
        total += float(log_odds(next_token_log_probs(tuned, part), goal).sum()) - before
        for i, (site, columns) in enumerate(units):
            change = (outputs[site] - base_outputs[site])[:, columns].double()
            first_order[i] += float((change * gradients[site][:, columns].double()).sum())
            replacement, layer = on_units(columns, patch(outputs[site][:, columns])), int(site.split(".")[1])
            states = base_outputs[inputs[layer]].unflatten(0, tokens.shape)
            with run_blocks(base, layer, states=states), intervene(base, site, replacement, everywhere):
                exact[i] += float(log_odds(next_token_log_probs(base, part), goal).sum()) - before
    rows = []
    for i, (site, columns) in enumerate(units):
        shares = (float(exact[i] / total), float(first_order[i] / total)) if total else (None, None)
        rows.append(PatchingRow(_unit_name(site, columns), *shares))
    return rows


def _units(model: PreTrainedModel) -> list[tuple[str, slice]]:
    """Site and columns of every head and MLP."""
    n_heads, d_head = int(model.config.num_attention_heads), head_size(model.config)
    units = []
    for layer in range(n_layers(model)):
        site = f"blocks.{layer}.attn.hook_z"
        units += [(site, slice(head * d_head, (head + 1) * d_head)) for head in range(n_heads)]
        units.append((f"blocks.{layer}.hook_mlp_out", slice(0, int(model.config.hidden_size))))
    return units


def _unit_name(site: str, columns: slice) -> str:
    if "attn" not in site:
        return f"{site.rsplit('.', 1)[0]}.mlp"
    return f"{site.rsplit('.', 2)[0]}.head.{columns.start // (columns.stop - columns.start)}"


def _gradients(
    model: PreTrainedModel,
    prompt: tuple[Tensor, Tensor],
    goal: Tensor,
    sites: list[str],
    activations: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """∂(sum of margins)/∂activation by site, (batch · pos, d); `prompt`: tokens, last positions."""
    tokens, last = prompt
    offsets = {site: torch.zeros_like(activations[site], requires_grad=True) for site in sites}
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(intervene(model, site, add(offsets[site])))
        stack.enter_context(logits_at_last(model, last))
        log_p = forward(model, tokens).logits[:, 0].float().log_softmax(-1).cpu()
    margin = log_odds(log_p, goal).sum()
    return dict(zip(sites, torch.autograd.grad(margin, list(offsets.values())), strict=True))
