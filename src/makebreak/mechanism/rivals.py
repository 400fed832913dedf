"""How does a safety-tuned network come to refuse: by silence, by a route the base had, or by rewriting?

Both networks are cut in two at every layer and put together crosswise: the states that one has there go on through the
other. What the aligned lower part does to the states, the *movement*, then meets the base's upper part.

- silence: the movement lies where the base's upper part does not hear it, and changes nothing there.
- route: it makes the base's upper part refuse. The base had the way; the lower part learnt to send requests down it.
- rewrite: it does neither; only the aligned upper part makes a refusal of it.
- erase: as rewrite, but what the answer needs is no longer in the states.

The rules of `RULES` are about the cut at half depth, and were fixed before any network was judged by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import at_last, capture, intervene, run, set_to
from makebreak.behaviour import batches, decision_kl, first_tokens, log_odds, prompts
from makebreak.geometry import share
from makebreak.mechanism.downstream import Downstream, downstream
from makebreak.models import n_layers
from makebreak.requests import Requests, TextRequests

BLUR = 0.5  # of the spread of the base's states, for readers of the answer


@dataclass(frozen=True)
class Rules:
    """least: nats by which alignment must have raised the margin. needed: share of that margin which is lost where the
    lower part is the base's. route: share that the base's upper part must give, and that a random movement of the same
    size must not. silent: share it may give or take at most. unheard: share of the movement's energy in the base's
    Gauss-Newton null space. erased: share of the base's readable answers that are lost; readable: the least skill of a
    linear reader of the base for that to mean anything.
    """

    least: float = 1.0
    needed: float = 0.5
    route: float = 0.5
    silent: float = 0.1
    unheard: float = 0.9
    erased: float = 0.5
    readable: float = 0.2


RULES = Rules()


class Verdict(NamedTuple):
    """answer: silence, route, rewrite, erase or undecided, and why."""

    answer: str
    why: str


def rival_rows(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Requests,
    *,
    answer: str = "refused",
    cuts: Sequence[int] | None = None,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per cut, all by default: from 0 (only the embedding below) to n_layers (only the unembedding above).

    Margins are log-odds of the first token of `answer` (`refused`; `instructed` for a remap twin), means over requests,
    nats. `base`, `aligned`: of the whole networks; `lower`: aligned below, base above; `upper`: base below, aligned
    above; `random`: the base with a random movement as large at every position. `lower_share` … are shares of aligned -
    base. `unheard`: share of the movement at the last position in the base's Gauss-Newton null space,
    `unheard_chance` that of a random one, `heard_gain` δᵀFδ in units of a random direction's; `kl`: of the base's
    decision to that under the movement; `answer_base`, `answer_aligned`: skill of a linear reader of the instructed
    answer's first token, 0 where it is no better than one fitted to shuffled answers, None of text.
    """
    depth = n_layers(base)
    cuts = range(depth + 1) if cuts is None else cuts
    target = first_tokens(requests, answer)
    random = torch.Generator().manual_seed(seed)
    margins: dict[str, dict[int, list[Tensor]]] = {
        k: {cut: [] for cut in cuts} for k in ("lower", "upper", "random")
    }
    kl: dict[int, list[Tensor]] = {cut: [] for cut in cuts}
    whole: dict[str, list[Tensor]] = {"base": [], "aligned": []}
    last_states: dict[int, list[tuple[Tensor, Tensor]]] = {cut: [] for cut in cuts}
    start = 0
    for part in batches(requests):
        goal = target[start : start + len(part)]
        start += len(part)
        states = [_states(m, part) for m in (base, model)]
        before, after = (_decided(m, part) for m in (base, model))
        whole["base"].append(log_odds(before, goal))
        whole["aligned"].append(log_odds(after, goal))
        _, last = prompts(part)
        rows = torch.arange(len(part))
        for cut in cuts:
            own, moved = states[0][cut], states[1][cut]
            noise = torch.randn(own.shape, generator=random)
            size = (moved - own).norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
            found = _decided(base, part, cut, moved)
            margins["lower"][cut].append(log_odds(found, goal))
            margins["upper"][cut].append(log_odds(_decided(model, part, cut, own), goal))
            margins["random"][cut].append(log_odds(_decided(base, part, cut, own + size * noise), goal))
            kl[cut].append(decision_kl(before, found))
            last_states[cut].append((own[rows, last], moved[rows, last]))
    means = {name: float(torch.cat(values).mean()) for name, values in whole.items()}
    heard = downstream(base, requests, seed=seed)
    found_rows = []
    for cut in cuts:
        row: dict[str, Any] = {
            "layer": cut,
            "n_layers": depth,
            **means,
            "kl": float(torch.cat(kl[cut]).mean()),
        }
        for name, values in margins.items():
            row[name] = float(torch.cat(values[cut]).mean())
            row[f"{name}_share"] = _share(row[name], means["base"], means["aligned"])
        own, moved = (torch.cat([pair[i] for pair in last_states[cut]]) for i in (0, 1))
        row |= _hearing(heard[cut] if cut < depth else None, moved - own)
        row |= _readable(own, moved, requests, seed)
        found_rows.append(row)
    return found_rows


def _share(value: float, base: float, aligned: float) -> float | None:
    return (value - base) / (aligned - base) if aligned != base else None


def _site(model: PreTrainedModel, cut: int) -> str:
    depth = n_layers(model)
    return f"blocks.{cut}.hook_resid_pre" if cut < depth else f"blocks.{depth - 1}.hook_resid_post"


def _states(model: PreTrainedModel, requests: Requests) -> list[Tensor]:
    """The residual stream at every cut, (batch, pos, d)."""
    tokens, _ = prompts(requests)
    sites = [_site(model, cut) for cut in range(n_layers(model) + 1)]
    [found] = capture(model, tokens, sites, torch.ones_like(tokens, dtype=torch.bool))
    return [found.at[site].unflatten(0, tokens.shape) for site in sites]


def _decided(
    model: PreTrainedModel, requests: Requests, cut: int | None = None, states: Tensor | None = None
) -> Tensor:
    """log p of the decision, (batch, d_vocab), float64; with the states at a cut replaced."""
    tokens, last = prompts(requests)
    with torch.no_grad(), at_last(model, last), ExitStack() as stack:
        if cut is not None and states is not None:
            everywhere = torch.ones_like(tokens, dtype=torch.bool)
            stack.enter_context(intervene(model, _site(model, cut), set_to(states.flatten(0, 1)), everywhere))
        logits = run(model, tokens).logits[:, 0]
    return logits.double().log_softmax(-1).cpu()


def _hearing(heard: Downstream | None, movement: Tensor) -> dict[str, float | None]:
    if heard is None or not movement.any():
        return {"unheard": None, "unheard_chance": None, "heard_gain": None}
    null = heard.null()
    moved = movement[movement.any(dim=1)]
    shares = share(moved, null)
    found = None if shares is None else float(shares.mean())
    return {"unheard": found, "unheard_chance": null.chance, "heard_gain": heard.gain(moved)}


def _readable(own: Tensor, moved: Tensor, requests: Requests, seed: int) -> dict[str, float | None]:
    """Readers are fitted on every second request and scored on the others; of text no answer is known.

    States get noise of half the base's spread: a network without noise keeps a trace of everything.
    """
    if isinstance(requests, TextRequests):
        return {"answer_base": None, "answer_aligned": None}
    token = first_tokens(requests, "instructed").numpy()
    random = np.random.default_rng(seed)
    shuffled = random.permutation(token)
    noise = BLUR * float((own - own.mean(dim=0)).square().mean().sqrt()) * random.standard_normal(own.shape)
    rows: dict[str, float | None] = {}
    for name, states in (("base", own), ("aligned", moved)):
        x, scores = states.numpy() + noise, []
        for label in (token, shuffled):
            reader = make_pipeline(StandardScaler(), RidgeClassifier())
            scores.append(float((reader.fit(x[::2], label[::2]).predict(x[1::2]) == label[1::2]).mean()))
        rows[f"answer_{name}"] = max(scores[0] - scores[1], 0.0) / max(1 - scores[1], 1e-9)
    return rows


def verdict(rows: list[dict[str, Any]], rules: Rules = RULES) -> Verdict:
    """What the cut at half depth says, by the rules."""
    row = next(row for row in rows if row["layer"] == row["n_layers"] // 2)
    if row["aligned"] - row["base"] < rules.least:
        return Verdict(
            "undecided", f"alignment raised the margin by {row['aligned'] - row['base']:.2f} nats only"
        )
    lost = 1 - row["upper_share"]
    if lost < rules.needed:
        return Verdict("undecided", f"without the lower half only {lost:.2f} of the margin is lost")
    given = row["lower_share"]
    if given >= rules.route:
        if row["random_share"] >= rules.route:
            return Verdict(
                "undecided", f"any movement as large gives {row['random_share']:.2f} of the margin"
            )
        return Verdict("route", f"the base's upper half gives {given:.2f} of the margin")
    if abs(given) <= rules.silent and (row["unheard"] or 0.0) >= rules.unheard:
        return Verdict(
            "silence", f"{row['unheard']:.2f} of the movement is unheard, it gives {given:.2f} of the margin"
        )
    before, after = row["answer_base"], row["answer_aligned"]
    if before is not None and before >= rules.readable and after <= (1 - rules.erased) * before:
        return Verdict("erase", f"the answer is readable at {after:.2f} of {before:.2f}")
    return Verdict("rewrite", f"the base's upper half gives {given:.2f} of the margin, the aligned one all")
