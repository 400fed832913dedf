"""Refusal directions of the residual stream (Arditi et al. 2024).

A candidate is the difference of the mean states of unsafe and safe requests at the end of the prompt, one per
layer. It is judged by three interventions: how far refusal falls where the direction is ablated everywhere,
whether adding it makes safe requests refused, and how much ablating it changes the decision on safe requests.
Controls are a difference of means of shuffled labels and a random direction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, intervene, project
from makebreak.architectures import architecture_of
from makebreak.evaluation import decision_kl, first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import bias_vector, n_layers, weight_matrix
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision

_WRITERS = ("hook_attn_out", "hook_mlp_out")


class SafeUnsafeRequests(NamedTuple):
    """Requests of the two classes."""

    safe: Requests
    """Safe or harmless requests."""
    unsafe: Requests
    """Unsafe or harmful requests."""


@dataclass(frozen=True)
class DirectionSettings:
    """Which vectors are evaluated, and what a refusal direction must meet (Arditi et al. 2024)."""

    max_kl: float = 0.1
    """Largest KL of the decision on safe requests under ablation, nats."""
    min_induce: float = 0.0
    """Least refusal margin on safe requests under addition, nats."""
    max_depth: float = 0.8
    """Layers below this share of all layers are candidates."""
    controls: bool = True
    """Whether shuffled labels and random directions are evaluated too, at three times the cost."""


DIRECTION_SETTINGS = DirectionSettings()


class DirectionRow(NamedTuple):
    """One vector at one layer; columns of interventions are None where the vector was not evaluated."""

    layer: int
    """Layer before which the states are taken and the vector is added."""
    kind: str
    """`difference` of class means, or a control: `shuffled` labels, `random` direction."""
    norm: float
    """Norm of the vector."""
    bypass: float | None
    """Refusal margin on unsafe requests where the direction is ablated at every layer, mean, nats."""
    induce: float | None
    """Refusal margin on safe requests where the vector is added at this layer, mean, nats."""
    kl: float | None
    """KL of the decision on safe requests under ablation, mean, nats."""
    reason: str
    """Reason why the vector is not a refusal direction; empty for a candidate that meets all criteria."""
    is_selected: bool
    """Whether it is the candidate with the least `bypass` among those that meet all criteria."""


@contextmanager
def ablate_directions(model: PreTrainedModel, basis: Float[Tensor, "d k"]) -> Iterator[None]:
    """A context in which the residual stream has no component in the span of orthonormal columns."""
    overwrites = architecture_of(model).overwrites_stream
    writers = ("ln1.hook_normalized", *_WRITERS) if overwrites else _WRITERS
    first = ["blocks.0.hook_resid_pre"]
    sites = first + [f"blocks.{layer}.{writer}" for layer in range(n_layers(model)) for writer in writers]
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(intervene(model, site, project(basis)))
        yield


def ablate_weights(model: PreTrainedModel, basis: Float[Tensor, "d k"]) -> PreTrainedModel:
    """A copy of the model whose matrices write nothing into the span of orthonormal columns: W - B Bᵀ W.

    Args:
        model: The model to copy.
        basis: Orthonormal columns.

    Returns:
        The copy, in evaluation mode, with an untied head.

    Raises:
        ValueError: If the architecture normalises the outputs of attention and MLP, the embeddings, or the
            residual stream itself, so that no change of weights equals the intervention, or has experts,
            whose matrices have no names.
    """
    architecture = architecture_of(model)
    reasons = {
        "normalises the outputs of attention and MLP": architecture.normalises_writes,
        "normalises its embeddings": architecture.normalises_embeddings,
        "replaces the residual stream by its norm": architecture.overwrites_stream,
        "is a mixture of experts, whose matrices have no names": architecture.has_experts,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"{type(model).__name__} {reason}: ablate by hooks, with `ablate_directions`")
    copied = copy.deepcopy(model)
    head: torch.nn.Linear = copied.get_output_embeddings()  # type: ignore[assignment]
    if copied.config.tie_word_embeddings:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        copied.config.tie_word_embeddings = False
    b = basis.to(head.weight)
    embeddings = [m for m in copied.base_model.modules() if isinstance(m, torch.nn.Embedding)]
    with torch.no_grad():
        for embedding in embeddings:
            embedding.weight.sub_(embedding.weight @ b @ b.T)
        for layer in range(n_layers(copied)):
            for name in (f"blocks.{layer}.attn.W_O", f"blocks.{layer}.mlp.W_out"):
                weight, offset = weight_matrix(copied, name), bias_vector(copied, name)
                weight.sub_(b @ (b.T @ weight))
                offset.sub_(b @ (b.T @ offset))
    return copied.eval()


@cache_revision(2)
def direction_rows(
    model: PreTrainedModel,
    fit: SafeUnsafeRequests,
    score: SafeUnsafeRequests,
    *,
    settings: DirectionSettings = DIRECTION_SETTINGS,
    seed: int,
    progress: Callable[[int], object] = lambda _: None,
) -> list[DirectionRow]:
    """Evaluates the difference of class means of every layer as a refusal direction, with controls.

    Args:
        model: The model.
        fit: Requests that give the means; they should share no texts with `score`.
        score: Requests on which the interventions are evaluated.
        settings: Which vectors are evaluated, and what a direction must meet to be selected.
        seed: Seed of the controls.
        progress: Called with 1 after every vector.

    Returns:
        One row per layer and kind.
    """
    refusals = {name: first_tokens(requests, "refused") for name, requests in score._asdict().items()}
    base_log_p = next_token_log_probs(model, score.safe, narrow=True).double()
    random = torch.Generator().manual_seed(seed)
    rows = []
    for layer, vectors in enumerate(_vectors(model, fit, random)):
        for kind, vector in vectors.items() if settings.controls else [("difference", vectors["difference"])]:
            row = DirectionRow(layer, kind, float(vector.norm()), None, None, None, "", False)
            progress(1)
            excluded = exclusion_reason(layer, n_layers(model), vector, settings)
            if excluded:
                rows.append(row._replace(reason=excluded))
                continue
            unit = (vector / vector.norm()).float()
            with ablate_directions(model, unit[:, None]):
                log_p = next_token_log_probs(model, score.unsafe, narrow=True)
                ablated_log_p = next_token_log_probs(model, score.safe, narrow=True).double()
            with intervene(model, f"blocks.{layer}.hook_resid_pre", add(vector.float())):
                added_log_p = next_token_log_probs(model, score.safe, narrow=True)
            row = row._replace(
                bypass=float(log_odds(log_p, refusals["unsafe"]).mean()),
                induce=float(log_odds(added_log_p, refusals["safe"]).mean()),
                kl=float(decision_kl(base_log_p, ablated_log_p).mean()),
            )
            rows.append(row._replace(reason=_rejection(row, settings) if kind == "difference" else "control"))
    candidates = [row for row in rows if not row.reason]
    best = min(candidates, key=lambda row: row.bypass, default=None)
    return [row._replace(is_selected=row is best) for row in rows]


def refusal_direction(model: PreTrainedModel, fit: SafeUnsafeRequests, layer: int) -> Float[Tensor, " d"]:
    """Difference of the mean states of unsafe and safe requests before a layer, at the end of the prompt."""
    return mean_differences(model, fit)[layer].float()


def mean_differences(model: PreTrainedModel, fit: SafeUnsafeRequests) -> list[Float[Tensor, " d"]]:
    """Differences of the mean states of unsafe and safe requests before each layer, at the prompt's end."""
    return [of_layer["difference"] for of_layer in _vectors(model, fit, torch.Generator().manual_seed(0))]


def _vectors(
    model: PreTrainedModel, fit: SafeUnsafeRequests, random: torch.Generator
) -> list[dict[str, Tensor]]:
    """By layer: the difference of means, that of shuffled labels, and a random vector of the same norm."""
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(model))]
    safe_states = end_of_text_activations(model, fit.safe, sites)
    unsafe_states = end_of_text_activations(model, fit.unsafe, sites)
    n = len(fit.safe)
    order = torch.randperm(n + len(fit.unsafe), generator=random)
    vectors = []
    for safe, unsafe in zip(safe_states, unsafe_states, strict=True):
        difference = unsafe.double().mean(dim=0) - safe.double().mean(dim=0)
        mixed = torch.cat([safe, unsafe]).double()[order]
        noise = torch.randn(len(difference), generator=random, dtype=torch.float64)
        shuffled = mixed[n:].mean(dim=0) - mixed[:n].mean(dim=0)
        scaled_noise = noise * difference.norm() / noise.norm()
        vectors.append({"difference": difference, "shuffled": shuffled, "random": scaled_noise})
    return vectors


def exclusion_reason(layer: int, depth: int, vector: Tensor, settings: DirectionSettings) -> str:
    """Reason why a vector is not evaluated; empty if it is.

    Args:
        layer: Layer of the vector.
        depth: Number of layers of the model.
        vector: The vector.
        settings: The layers whose vectors are candidates.

    Returns:
        The reason.
    """
    if layer >= settings.max_depth * depth:
        return f"not evaluated: layer {layer} is beyond {settings.max_depth:g} of the depth"
    if not vector.norm() > 0:
        return "undefined: the means are equal"
    return ""


def _rejection(row: DirectionRow, settings: DirectionSettings) -> str:
    """Reason why an evaluated candidate is rejected; empty if it meets the criteria."""
    assert row.kl is not None
    assert row.induce is not None
    if row.kl > settings.max_kl:
        return f"ablation moves safe requests by {row.kl:.2f} nats, more than {settings.max_kl:g}"
    if row.induce < settings.min_induce:
        return f"addition gives safe requests a margin of {row.induce:.2f}, less than {settings.min_induce:g}"
    return ""
