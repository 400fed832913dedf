"""Linear probes that separate *harmful* from *refused*.

The two labels differ where a jailbreak succeeds (unsafe, not refused) and where a safe request is refused.
States are regressed on both labels at once, so that each direction is what its label adds where the other is
fixed; each direction is scored on other requests, among which only its own label differs.

The cosine of two estimated directions is nearer to 0 than that of the true ones, because their errors
lengthen them (attenuation, Spearman 1904), and is shifted where the errors are correlated, as those of
correlated labels are. Both are removed by the estimated covariance of the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture
from makebreak.models import n_layers
from makebreak.prompts import Requests, request_span
from makebreak.stats import auroc

_MIN_SLACK = 1e-6
"""Least value of 1 - leverage; a request that alone has its labels is fitted exactly, without a residual."""
POSITIONS = ("text", "eot")
"""The last token of the text, and the end of text."""
MIN_PER_LABEL = 10
"""Least number of scored requests of either label for an AUROC."""
N_JACKKNIFE_GROUPS = 20
"""Parts of the fitted requests that are left out in turn, for the interval of the cosine."""
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
    """Cosine between the two directions, corrected for the errors of both; within -1 and 1. None where one of
    them is no longer than its error."""
    cosine_low: float | None
    """Lower end of the 95 % interval of `cosine` over requests, by the delete-a-group jackknife."""
    cosine_high: float | None
    """Upper end of that interval."""
    raw_cosine: float | None
    """Cosine between the directions as they are estimated."""
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


@dataclass(frozen=True)
class _Labels:
    """Labels of all requests and their halves, and least squares on every pair of labels.

    The first pair is the true one; in the others the label that is probed is shuffled where the other is
    fixed. The same regressions serve all layers and positions.
    """

    unsafe: np.ndarray
    refused: np.ndarray
    is_fit: np.ndarray
    harm_solutions: np.ndarray
    """(1 + shuffles, 3, fit) coefficients of states on a constant, a harm label and the refusals."""
    refusal_solutions: np.ndarray
    """(1 + shuffles, 3, fit) the same with a refusal label and the true harm."""
    design: np.ndarray
    """(fit, 3) a constant, harm and refusals."""
    jackknife: list[tuple[np.ndarray, np.ndarray]]
    """For each part that is left out, the rows of the others and the matrix (3, rows) of their regression."""

    @classmethod
    def create(cls, families: Sequence[LabelledRequests], seed: int) -> _Labels:
        """Labels of the requests of all families, with random halves and shuffles."""
        unsafe = np.concatenate([labelled.requests.unsafe for labelled in families])
        refused = np.concatenate([labelled.is_refused for labelled in families])
        random = np.random.default_rng(seed)
        is_fit = random.permutation(len(unsafe)) % 2 == 0
        harm, refusal = [(unsafe, refused)], [(unsafe, refused)]
        for _ in range(N_LABEL_SHUFFLES):
            harm.append((_shuffle_within(unsafe, refused, random), refused))
            refusal.append((unsafe, _shuffle_within(refused, unsafe, random)))
        solutions = [_solutions(pairs, is_fit) for pairs in (harm, refusal)]
        fit, group = np.flatnonzero(is_fit), random.permutation(int(is_fit.sum())) % N_JACKKNIFE_GROUPS
        rows = [np.flatnonzero(group != k) for k in range(N_JACKKNIFE_GROUPS)]
        jackknife = [(part, _solutions(harm[:1], fit[part])[0]) for part in rows]
        design = _designs(harm[:1], is_fit)[0]
        return cls(unsafe, refused, is_fit, solutions[0], solutions[1], design, jackknife)


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
    labels = _Labels.create(list(families.values()), seed)
    states = [_last_states(model, labelled.requests) for labelled in families.values()]
    rows = []
    for i, position in enumerate(POSITIONS):
        for layer in range(n_layers(model)):
            x = torch.cat([of_family[layer][:, i] for of_family in states]).double().numpy()
            rows.append(_row(x, labels, layer, position))
    return rows


def _row(x: np.ndarray, labels: _Labels, layer: int, position: str) -> HarmRefusalRow:
    """Probes of both labels in the states of one layer and position."""
    fit, is_scored = x[labels.is_fit], ~labels.is_fit
    harm = (labels.harm_solutions @ fit)[:, 1]
    refusal = (labels.refusal_solutions @ fit)[:, 2]
    raw_cosine = _cosine(harm[0] @ refusal[0], harm[0] @ harm[0], refusal[0] @ refusal[0])
    harm_aurocs = _aurocs(x @ harm.T, labels.unsafe, is_scored & ~labels.refused)
    refusal_aurocs = _aurocs(x @ refusal.T, labels.refused, is_scored & labels.unsafe)
    return HarmRefusalRow(
        layer,
        position,
        *_corrected_cosine(fit, labels),
        raw_cosine,
        harm_aurocs[0],
        refusal_aurocs[0],
        *_mean_and_p95(harm_aurocs[1:]),
        *_mean_and_p95(refusal_aurocs[1:]),
    )


def _corrected_cosine(
    states: Float[np.ndarray, "fit d"], labels: _Labels
) -> tuple[float | None, float | None, float | None]:
    """Corrected cosine of both directions and its interval."""
    whole = _error_free_cosine(states, labels.design, labels.harm_solutions[0])
    parts = [_error_free_cosine(states[rows], labels.design[rows], s) for rows, s in labels.jackknife]
    if whole is None or None in parts:
        return _clip(whole), None, None
    n, values = len(parts), np.array(parts, dtype=np.float64)
    half_width = float(stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) * values.var()))
    return _clip(whole), _clip(whole - half_width), _clip(whole + half_width)


def _error_free_cosine(
    states: Float[np.ndarray, "n d"], design: Float[np.ndarray, "n 3"], solution: Float[np.ndarray, "3 n"]
) -> float | None:
    """Cosine of the regression coefficients of both labels without the contributions of their errors.

    The errors' inner products are estimated from residuals that are scaled by their leverages (HC2, MacKinnon
    and White 1985), so that the noise may differ between requests.
    """
    coefficients = solution @ states
    leverage = (design * solution.T).sum(axis=1)
    noise = np.square(states - design @ coefficients).sum(axis=1) / np.maximum(1 - leverage, _MIN_SLACK)
    products = (coefficients @ coefficients.T - (solution * noise) @ solution.T)[1:, 1:]
    return _cosine(products[0, 1], products[0, 0], products[1, 1])


def _cosine(product: float, square: float, other_square: float) -> float | None:
    """Cosine from an inner product and two squared norms; None if one of these is not positive."""
    return float(product / np.sqrt(square * other_square)) if min(square, other_square) > 0 else None


def _clip(cosine: float | None) -> float | None:
    """The nearest value that a cosine can have: a corrected one may lie beyond 1."""
    return None if cosine is None else min(max(cosine, -1.0), 1.0)


def _mean_and_p95(values: list[float | None]) -> tuple[float | None, float | None]:
    defined = [value for value in values if value is not None]
    return (float(np.mean(defined)), float(np.quantile(defined, 0.95))) if defined else (None, None)


def _last_states(model: PreTrainedModel, requests: Requests) -> list[Float[Tensor, "n positions d"]]:
    """States at the last position of the span of each of `POSITIONS`, by layer."""
    tokens = torch.from_numpy(requests.prompt)
    last = torch.from_numpy(np.stack([request_span(requests, span)[:, 1] - 1 for span in POSITIONS], axis=1))
    where = torch.zeros(tokens.shape, dtype=torch.bool).scatter(1, last, value=True)
    rows = torch.arange(len(tokens))[:, None].expand_as(last)
    index = torch.zeros(tokens.shape, dtype=torch.int64)
    index[where] = torch.arange(int(where.sum()))  # in reading order, as activations come
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(n_layers(model))]
    batches = list(capture(model, tokens, sites, where))
    return [torch.cat([batch.activations[site] for batch in batches])[index[rows, last]] for site in sites]


def _solutions(pairs: Sequence[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """(pairs, 3, rows) matrices that map states to coefficients, with both labels of a pair in the model."""
    designs = _designs(pairs, rows)
    return np.linalg.pinv(designs, rcond=np.finfo(np.float64).eps * designs.shape[1])


def _designs(pairs: Sequence[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """(pairs, rows, 3) a constant and both labels of each pair."""
    return np.stack([np.stack([np.ones(len(a)), a, b], axis=1)[rows] for a, b in pairs])


def _aurocs(scores: np.ndarray, label: np.ndarray, rows: np.ndarray) -> list[float | None]:
    """AUROC of every column among some rows; None with fewer than `MIN_PER_LABEL` of either label."""
    positive, negative = scores[rows & label], scores[rows & ~label]
    if min(len(positive), len(negative)) < MIN_PER_LABEL:
        return [None] * scores.shape[1]
    return [auroc(positive=p, negative=n) for p, n in zip(positive.T, negative.T, strict=True)]


def _shuffle_within(label: np.ndarray, strata: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The label shuffled among rows that have the same value of `strata`."""
    out = label.copy()
    for value in (False, True):
        rows = np.flatnonzero(strata == value)
        out[rows] = label[random.permutation(rows)]
    return out
