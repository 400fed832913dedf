"""Is there a direction in the residual stream that refusal hangs on (Arditi et al. 2024)?

A candidate is the difference of mean states of unsafe and safe requests at the end of the prompt, one per layer. It is
judged by three things that an intervention shows: how far refusal falls where it is ablated everywhere, whether adding
it makes safe requests refused, and what ablating it does to safe requests. Beside it stand a difference of means of
shuffled labels and a random direction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, intervene, project_out
from makebreak.behaviour import decide, decision_kl, first_tokens, log_odds
from makebreak.mechanism.end_of_text import collect
from makebreak.models import bias, matrix, n_layers
from makebreak.requests import Requests

_WRITERS = ("hook_attn_out", "hook_mlp_out")


class Pair(NamedTuple):
    safe: Requests
    unsafe: Requests


@dataclass(frozen=True)
class Selection:
    """What a candidate must pass. kl: greatest KL of the decision on safe requests under ablation, nats. induce: least
    log-odds of the null on safe requests under addition. depth: layers below this share of all."""

    kl: float = 0.1
    induce: float = 0.0
    depth: float = 0.8


SELECTION = Selection()


@contextmanager
def ablated(model: PreTrainedModel, basis: Float[Tensor, "d k"]) -> Iterator[None]:
    """Within, nothing in the span of orthonormal columns is in the residual stream, at any position."""
    first = ["blocks.0.hook_resid_pre"]
    sites = first + [f"blocks.{layer}.{writer}" for layer in range(n_layers(model)) for writer in _WRITERS]
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(intervene(model, site, project_out(basis)))
        yield


def ablated_weights(model: PreTrainedModel, basis: Float[Tensor, "d k"]) -> PreTrainedModel:
    """A copy whose weights write nothing into the span of orthonormal columns: W - B Bᵀ W for all that write.

    Raises ValueError for a layout that normalises what its parts write: no weights there do what the hooks do.
    """
    if model.config.model_type.startswith("gemma"):
        raise ValueError(
            f"{type(model).__name__} normalises what its parts write: ablate by hooks, with `ablated`"
        )
    made = copy.deepcopy(model)
    head: torch.nn.Linear = made.get_output_embeddings()  # type: ignore[assignment]
    if made.config.tie_word_embeddings:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        made.config.tie_word_embeddings = False
    b = basis.to(head.weight)
    embeddings = [m for m in made.base_model.modules() if isinstance(m, torch.nn.Embedding)]
    with torch.no_grad():
        for embedding in embeddings:
            embedding.weight.sub_(embedding.weight @ b @ b.T)
        for layer in range(n_layers(made)):
            for name in (f"blocks.{layer}.attn.W_O", f"blocks.{layer}.mlp.W_out"):
                weight, offset = matrix(made, name), bias(made, name)
                weight.sub_(b @ (b.T @ weight))
                offset.sub_(b @ (b.T @ offset))
    return made.eval()


def direction_rows(
    model: PreTrainedModel,
    fit: Pair,
    score: Pair,
    *,
    selection: Selection = SELECTION,
    controls: bool = True,
    seed: int,
    seen: Callable[[int], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """One row per layer and kind (`difference`, `shuffled`, `random`).

    norm of the vector; bypass: log-odds of the null on unsafe requests under ablation; induce: on safe ones under
    addition at that layer; kl: on safe ones under ablation; reason: why a difference is discarded, empty where it is
    not; selected: the one kept that bypasses best. Layers beyond the depth asked for are not tried. fit, score:
    requests that share no texts. controls: also `shuffled` and `random`, at three times the cost. seen: told after
    every vector.
    """
    null = {name: first_tokens(requests, "refused") for name, requests in score._asdict().items()}
    before = decide(model, score.safe).double()
    random = torch.Generator().manual_seed(seed)
    states = _means(model, fit, random)
    rows = []
    for layer, kinds in enumerate(states):
        for kind, vector in kinds.items() if controls else [("difference", kinds["difference"])]:
            row = {"layer": layer, "kind": kind, "norm": float(vector.norm())}
            seen(1)
            never = _untried(layer, n_layers(model), vector, selection)
            if never:
                rows.append(row | dict.fromkeys(("bypass", "induce", "kl")) | {"reason": never})
                continue
            unit = (vector / vector.norm()).float()
            with ablated(model, unit[:, None]):
                bypass = float(log_odds(decide(model, score.unsafe), null["unsafe"]).mean())
                after = decide(model, score.safe).double()
            with intervene(model, f"blocks.{layer}.hook_resid_pre", add(vector.float())):
                induce = float(log_odds(decide(model, score.safe), null["safe"]).mean())
            found = {"bypass": bypass, "induce": induce, "kl": float(decision_kl(before, after).mean())}
            reason = _reason(found, selection) if kind == "difference" else "control"
            rows.append(row | found | {"reason": reason})
    kept = [row for row in rows if not row["reason"]]
    best = min(kept, key=lambda row: row["bypass"], default=None)
    return [row | {"selected": row is best} for row in rows]


def direction(model: PreTrainedModel, fit: Pair, layer: int) -> Float[Tensor, " d"]:
    """The difference of mean states of unsafe and safe requests before a layer, at the end of the prompt."""
    return _means(model, fit, torch.Generator().manual_seed(0))[layer]["difference"].float()


def _means(model: PreTrainedModel, fit: Pair, random: torch.Generator) -> list[dict[str, Tensor]]:
    """By layer: the difference of means, that of shuffled labels, and a random vector as long as the first."""
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(model))]
    found = [collect(model, requests, sites) for requests in fit]
    n = len(fit.safe)
    order = torch.randperm(n + len(fit.unsafe), generator=random)
    rows = []
    for safe, unsafe in zip(*found, strict=True):
        difference = unsafe.double().mean(dim=0) - safe.double().mean(dim=0)
        mixed = torch.cat([safe, unsafe]).double()[order]
        noise = torch.randn(len(difference), generator=random, dtype=torch.float64)
        shuffled = mixed[n:].mean(dim=0) - mixed[:n].mean(dim=0)
        rows.append(
            {
                "difference": difference,
                "shuffled": shuffled,
                "random": noise * difference.norm() / noise.norm(),
            }
        )
    return rows


def _untried(layer: int, depth: int, vector: Tensor, selection: Selection) -> str:
    """Why a vector is not even tried; empty where it is."""
    if layer >= selection.depth * depth:
        return f"not tried: layer {layer} is beyond {selection.depth:g} of the depth"
    if not vector.norm() > 0:
        return "undefined: the means are equal"
    return ""


def _reason(found: dict[str, float], selection: Selection) -> str:
    """Why a candidate is discarded; empty where it is not."""
    if found["kl"] > selection.kl:
        return f"ablation moves safe requests by {found['kl']:.2f} nats, more than {selection.kl:g}"
    if found["induce"] < selection.induce:
        return (
            f"addition gives safe requests a margin of {found['induce']:.2f}, less than {selection.induce:g}"
        )
    return ""


def rank_rows(
    model: PreTrainedModel, fit: Pair, unsafe: Requests, *, most: int = 8, seed: int
) -> list[dict[str, Any]]:
    """Refusal rank: ablate greedily until fewer than half of the unsafe requests are refused.

    One row per number of directions ablated, 0 first: refused, the share whose decision is the null (log-odds above 0);
    random_refused, with as many random directions. Each next direction is the difference of means, under the ablation
    so far, of the layer where ablating it too lowers the margin most. The rank is the last row's `directions` where its
    `refused` is below one half, else it is more than `most`.
    """
    null = first_tokens(unsafe, "refused")
    random = torch.Generator().manual_seed(seed)
    d = model.config.hidden_size
    basis = torch.zeros(d, 0)
    noise = torch.linalg.qr(torch.randn(d, most, generator=random)).Q
    rows: list[dict[str, Any]] = []
    for k in range(most + 1):
        margins = _under(model, basis, unsafe, null)
        by_chance = _under(model, noise[:, :k], unsafe, null)
        shares = {"refused": float((margins > 0).double().mean()), "margin": float(margins.mean())}
        rows.append({"directions": k, **shares, "random_refused": float((by_chance > 0).double().mean())})
        if shares["refused"] < 0.5 or k == most:
            break
        with _maybe_ablated(model, basis):
            kinds = _means(model, fit, random)
        options = [
            _extended(basis, kind["difference"].float()) for kind in kinds if kind["difference"].norm() > 0
        ]
        if not options:
            break
        basis = min(options, key=lambda option: float(_under(model, option, unsafe, null).mean()))
    return rows


@contextmanager
def _maybe_ablated(model: PreTrainedModel, basis: Tensor) -> Iterator[None]:
    if basis.shape[1] == 0:
        yield
    else:
        with ablated(model, basis):
            yield


def _under(model: PreTrainedModel, basis: Tensor, requests: Requests, null: Tensor) -> Tensor:
    with _maybe_ablated(model, basis):
        return log_odds(decide(model, requests), null)


def _extended(basis: Tensor, vector: Tensor) -> Tensor:
    return torch.linalg.qr(torch.cat([basis, vector[:, None]], dim=1)).Q
