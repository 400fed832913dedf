"""Linear probes that separate *harmful* from *refused*.

The two labels differ where a jailbreak succeeds (unsafe, not refused) and where a safe request is refused.
States are regressed on both labels at once, so that each direction is what its label adds where the other is
fixed; each direction is scored on other requests, among which only its own label differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture
from makebreak.models import n_layers
from makebreak.prompts import Requests
from makebreak.stats import auroc

POSITIONS = ("text", "eot")
"""The last token of the text, and the end of text."""
MIN_PER_LABEL = 10
"""Least number of scored requests of either label for an AUROC."""
N_LABEL_SHUFFLES = 20
"""Shuffles of each label, for the distribution of the AUROC by chance."""


class LabelledRequests(NamedTuple):
    """Requests with the model's own refusals."""

    requests: Requests
    """The requests, with their class in `unsafe`."""
    is_refused: Bool[np.ndarray, " n"]
    """Whether the model refused each request."""


class HarmRefusalRow(NamedTuple):
    """Probes of both labels at one layer (`hook_resid_post`) and position; None where a label is too rare."""

    layer: int
    """Layer whose output is read."""
    position: str
    """`text`, the last token of the text, or `eot`, the end of text."""
    cosine: float | None
    """Cosine between the two directions; least squares shrinks it slightly towards 0."""
    harm_auroc: float | None
    """AUROC of the harm direction among requests that are not refused."""
    refusal_auroc: float | None
    """AUROC of the refusal direction among unsafe requests."""
    shuffled_harm_auroc: float | None
    """Mean of `harm_auroc` over shuffles of the harm label among requests with the same refusal."""
    shuffled_harm_p95: float | None
    """95th percentile over these shuffles."""
    shuffled_refusal_auroc: float | None
    """Mean of `refusal_auroc` over shuffles of the refusal label among requests of the same class."""
    shuffled_refusal_p95: float | None
    """95th percentile over these shuffles."""


class _Labels(NamedTuple):
    """Labels of all requests, their halves, and shuffles of each label where the other is fixed."""

    unsafe: np.ndarray
    refused: np.ndarray
    is_fit: np.ndarray
    shuffles: list[tuple[np.ndarray, np.ndarray]]

    def harm_auroc(self, x: np.ndarray, unsafe: np.ndarray) -> float | None:
        """AUROC of the direction of a harm label, scored among requests that are not refused."""
        direction = _directions(x, unsafe, self.refused, self.is_fit)[0]
        return _auroc_or_none(x @ direction, self.unsafe, ~self.is_fit & ~self.refused)

    def refusal_auroc(self, x: np.ndarray, refusals: np.ndarray) -> float | None:
        """AUROC of the direction of a refusal label, scored among unsafe requests."""
        direction = _directions(x, self.unsafe, refusals, self.is_fit)[1]
        return _auroc_or_none(x @ direction, self.refused, ~self.is_fit & self.unsafe)


def harm_refusal_rows(
    model: PreTrainedModel, families: Mapping[str, LabelledRequests], *, seed: int
) -> list[HarmRefusalRow]:
    """Fits both probes on a random half of the requests and scores them on the other half.

    A state holds so much that a random direction may separate well, in either orientation: the shuffles show
    how well.

    Args:
        model: The model.
        families: Requests with the model's refusals, by family.
        seed: Seed of the halves and of the shuffles.

    Returns:
        One row per position and layer.
    """
    unsafe = np.concatenate([labelled.requests.unsafe for labelled in families.values()])
    refused = np.concatenate([labelled.is_refused for labelled in families.values()])
    random = np.random.default_rng(seed)
    is_fit = random.permutation(len(unsafe)) % 2 == 0
    shuffles = []
    for _ in range(N_LABEL_SHUFFLES):
        shuffled_unsafe = _shuffle_within(unsafe, refused, random)
        shuffles.append((shuffled_unsafe, _shuffle_within(refused, unsafe, random)))
    labels = _Labels(unsafe, refused, is_fit, shuffles)
    rows = []
    for position in POSITIONS:
        states = [_last_states(model, labelled.requests, position) for labelled in families.values()]
        for layer in range(n_layers(model)):
            x = torch.cat([s[layer] for s in states]).double().numpy()
            rows.append(_row(x, labels, layer, position))
    return rows


def _row(x: np.ndarray, labels: _Labels, layer: int, position: str) -> HarmRefusalRow:
    """Probes of both labels in the states of one layer and position."""
    harm, refusal = _directions(x, labels.unsafe, labels.refused, labels.is_fit)
    norms = float(np.linalg.norm(harm)), float(np.linalg.norm(refusal))
    cosine = float(harm @ refusal / (norms[0] * norms[1])) if min(norms) > 0 else None
    harm_shuffles = [labels.harm_auroc(x, shuffled) for shuffled, _ in labels.shuffles]
    refusal_shuffles = [labels.refusal_auroc(x, shuffled) for _, shuffled in labels.shuffles]
    return HarmRefusalRow(
        layer,
        position,
        cosine,
        labels.harm_auroc(x, labels.unsafe),
        labels.refusal_auroc(x, labels.refused),
        *_mean_and_p95(harm_shuffles),
        *_mean_and_p95(refusal_shuffles),
    )


def _mean_and_p95(values: list[float | None]) -> tuple[float | None, float | None]:
    defined = [value for value in values if value is not None]
    return (float(np.mean(defined)), float(np.quantile(defined, 0.95))) if defined else (None, None)


def _last_states(model: PreTrainedModel, requests: Requests, span: str) -> list[Float[Tensor, "n d"]]:
    """States at the last position of a span, by layer."""
    tokens = torch.from_numpy(requests.prompt)
    where = torch.arange(tokens.shape[1]) == torch.from_numpy(requests.spans[span][:, 1] - 1)[:, None]
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(n_layers(model))]
    batches = list(capture(model, tokens, sites, where))
    return [torch.cat([batch.activations[site] for batch in batches]) for site in sites]


def _directions(x: np.ndarray, unsafe: np.ndarray, refusals: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(2, d) what each label adds to the state, by least squares with both labels in the model."""
    design = np.stack([np.ones(len(x)), unsafe, refusals], axis=1)[rows]
    return np.linalg.lstsq(design, x[rows], rcond=None)[0][1:]


def _auroc_or_none(score: np.ndarray, label: np.ndarray, rows: np.ndarray) -> float | None:
    """AUROC among some rows; None with fewer than `MIN_PER_LABEL` of either label."""
    positive, negative = score[rows & label], score[rows & ~label]
    if min(len(positive), len(negative)) < MIN_PER_LABEL:
        return None
    return auroc(positive=positive, negative=negative)


def _shuffle_within(label: np.ndarray, strata: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The label shuffled among rows that have the same value of `strata`."""
    out = label.copy()
    for value in (False, True):
        rows = np.flatnonzero(strata == value)
        out[rows] = label[random.permutation(rows)]
    return out
