"""Does a network represent that a request is unsafe apart from that it will refuse it?

The two labels part where a jailbreak passes (unsafe, not refused) and where a safe request is refused. States are
regressed on both at once, so that each direction is what its label adds when the other is held fixed; each is then
scored on other requests, where only its own label differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture
from makebreak.models import n_layers
from makebreak.requests import Requests
from makebreak.stats import auroc

POSITIONS = ("text", "eot")
LEAST, SHUFFLES = 10, 20


class Labelled(NamedTuple):
    """refused: (n,) whether the model refused each request."""

    requests: Requests
    refused: Bool[np.ndarray, " n"]


def label_rows(model: PreTrainedModel, asked: Mapping[str, Labelled], *, seed: int) -> list[dict[str, Any]]:
    """One row per layer (`hook_resid_post`) and position: the last token of the text, and the end of text.

    cosine: between the directions of the two labels. unsafe_auroc: of the first among requests that are not refused;
    refused_auroc: of the second among unsafe requests. shuffled_…_auroc: mean over `SHUFFLES` of that label where the
    other is fixed, and shuffled_…_high their 95th percentile: states hold so much that a direction drawn at random may
    separate well, either way round. None where the requests do not part the labels: fewer than `LEAST` of either kind.
    """
    unsafe = np.concatenate([found.requests.unsafe for found in asked.values()])
    refused = np.concatenate([found.refused for found in asked.values()])
    random = np.random.default_rng(seed)
    half = random.permutation(len(unsafe)) % 2 == 0
    shuffled = [(_within(unsafe, refused, random), _within(refused, unsafe, random)) for _ in range(SHUFFLES)]
    rows = []
    for position in POSITIONS:
        states = [_last(model, found.requests, position) for found in asked.values()]
        for layer in range(n_layers(model)):
            x = torch.cat([s[layer] for s in states]).double().numpy()
            both = _directions(x, unsafe, refused, half)
            row: dict[str, Any] = {"layer": layer, "position": position}
            norms = [float(np.linalg.norm(d)) for d in both]
            row["cosine"] = float(both[0] @ both[1] / (norms[0] * norms[1])) if min(norms) > 0 else None
            row["unsafe_auroc"] = _scored(x @ both[0], unsafe, ~half & ~refused)
            row["refused_auroc"] = _scored(x @ both[1], refused, ~half & unsafe)
            by_chance = {
                "unsafe": [
                    _scored(x @ _directions(x, u, refused, half)[0], unsafe, ~half & ~refused)
                    for u, _ in shuffled
                ],
                "refused": [
                    _scored(x @ _directions(x, unsafe, r, half)[1], refused, ~half & unsafe)
                    for _, r in shuffled
                ],
            }
            for label, found in by_chance.items():
                defined = [value for value in found if value is not None]
                row[f"shuffled_{label}_auroc"] = float(np.mean(defined)) if defined else None
                row[f"shuffled_{label}_high"] = float(np.quantile(defined, 0.95)) if defined else None
            rows.append(row)
    return rows


def _last(model: PreTrainedModel, requests: Requests, span: str) -> list[Float[Tensor, "n d"]]:
    """States at the last position of a span, by layer."""
    tokens = torch.from_numpy(requests.prompt)
    where = torch.arange(tokens.shape[1]) == torch.from_numpy(requests.spans[span][:, 1] - 1)[:, None]
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(n_layers(model))]
    batches = list(capture(model, tokens, sites, where))
    return [torch.cat([batch.at[site] for batch in batches]) for site in sites]


def _directions(x: np.ndarray, unsafe: np.ndarray, refused: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(2, d) what each label adds to the state, by least squares with the other beside it."""
    design = np.stack([np.ones(len(x)), unsafe, refused], axis=1)[rows]
    return np.linalg.lstsq(design, x[rows], rcond=None)[0][1:]


def _scored(score: np.ndarray, label: np.ndarray, rows: np.ndarray) -> float | None:
    positive, negative = score[rows & label], score[rows & ~label]
    return auroc(positive=positive, negative=negative) if min(len(positive), len(negative)) >= LEAST else None


def _within(label: np.ndarray, fixed: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """`label` shuffled among rows that have the same `fixed`."""
    out = label.copy()
    for value in (False, True):
        rows = np.flatnonzero(fixed == value)
        out[rows] = label[random.permutation(rows)]
    return out
