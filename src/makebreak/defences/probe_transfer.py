"""Transfer of linear probes for unsafe requests between categories of requests, such as formats.

A probe is a logistic regression on the activations of a separate model at the last token of a request, or of
a request with its answer. It is fitted on safe and unsafe requests of some categories and evaluated on every
category. Recall is taken at the same false positive rate within each category, because a threshold that was
set on other categories may flag every safe request of a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.defences.monitors import FALSE_POSITIVE_RATE, fit_probe
from makebreak.defences.thresholds import calibrate_threshold, check_calibration, detection_rate, flags_at
from makebreak.mechanism import SafeUnsafeRequests, end_of_text_activations
from makebreak.prompts import Requests
from makebreak.stats import auroc


class ProbeTransferRow(NamedTuple):
    """Performance of one probe on one category of requests."""

    trained_on: str
    """Categories that the probe was fitted on: the name of one, `all`, or `all but NAME`."""
    evaluated_on: str
    """Category that the probe is evaluated on."""
    auroc: float
    """AUROC of unsafe against safe requests."""
    recall: float
    """Share of unsafe requests that are flagged, at the nominal false positive rate of this category."""
    recall_low: float
    """Lower end of the 95 % interval of `recall`, over requests and over the error of the threshold."""
    recall_high: float
    """Upper end of that interval."""
    fpr: float
    """Share of safe requests that are flagged at the threshold of the training categories."""


def append_instructed_answer(requests: Requests) -> Requests:
    """Appends the judged segment of the instructed answer to each prompt.

    Args:
        requests: Requests whose answers are judged on the first output.

    Returns:
        The same requests; the span `eot` is now the last token of the answer.

    Raises:
        ValueError: If answers are judged on a later output than the first.
    """
    if requests.judged[:, 0].any():
        raise ValueError(
            f"family {requests.family!r} is judged on a later output: expected one judged on the first"
        )
    length = requests.judged[:, 1]
    prompt = np.pad(requests.prompt, ((0, 0), (0, int(length.max()))))
    row, column = np.nonzero(np.arange(int(length.max())) < length[:, None])
    prompt[row, requests.prompt_length[row] + column] = requests.instructed[row, column]
    total = requests.prompt_length + length
    spans = {**requests.spans, "eot": np.stack([total - 1, total], axis=1)}
    return replace(requests, prompt=prompt, prompt_length=total, spans=spans)


def probe_transfer_rows(
    model: PreTrainedModel,
    fit: Mapping[str, SafeUnsafeRequests],
    calibration: Mapping[str, Requests],
    score: Mapping[str, SafeUnsafeRequests],
    *,
    layer: int,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
) -> list[ProbeTransferRow]:
    """Fits probes on one category, on all, and on all but one, and evaluates each on every category.

    Args:
        model: Model whose activations are classified.
        fit: Safe and unsafe requests that the probes are fitted on, by category.
        calibration: Other safe requests, which set thresholds, by category.
        score: Safe and unsafe requests that the probes are evaluated on, by category.
        layer: Layer after which the residual stream is taken, at the end of the request.
        false_positive_rate: Nominal share of safe requests that a threshold flags.

    Returns:
        One row per probe and category. Probes on all but one category need at least three categories.

    Raises:
        ValueError: If there are too few calibration requests for the false positive rate.
    """
    check_calibration(min(len(requests) for requests in calibration.values()), false_positive_rate)
    site = [f"blocks.{layer}.hook_resid_post"]

    def states(requests: Requests) -> Tensor:
        return end_of_text_activations(model, requests, site)[0].double()

    fit_states = {category: [states(part) for part in pair] for category, pair in fit.items()}
    calibration_states = {category: states(calibration[category]) for category in fit}
    score_states = {category: [states(part) for part in pair] for category, pair in score.items()}
    rows = []
    for trained_on, categories in _training_sets(list(fit)).items():
        safe = torch.cat([fit_states[category][0] for category in categories])
        unsafe = torch.cat([fit_states[category][1] for category in categories])
        weight, offset = fit_probe(safe, unsafe)
        pooled = torch.cat([calibration_states[category] for category in categories]) @ weight + offset
        pooled_threshold = calibrate_threshold(pooled, false_positive_rate)
        for category, (safe_states, unsafe_states) in score_states.items():
            safe_scores = safe_states @ weight + offset
            unsafe_scores = unsafe_states @ weight + offset
            calibration_scores = calibration_states[category] @ weight + offset
            threshold = calibrate_threshold(calibration_scores, false_positive_rate)
            recall = detection_rate(flags_at(threshold, unsafe_scores))
            rows.append(
                ProbeTransferRow(
                    trained_on=trained_on,
                    evaluated_on=category,
                    auroc=auroc(positive=unsafe_scores.numpy(), negative=safe_scores.numpy()),
                    recall=recall.rate,
                    recall_low=recall.low,
                    recall_high=recall.high,
                    fpr=float(flags_at(pooled_threshold, safe_scores).at_threshold.mean()),
                )
            )
    return rows


def _training_sets(categories: list[str]) -> dict[str, list[str]]:
    """Categories that each probe is fitted on, by the name of the probe."""
    sets = {category: [category] for category in categories} | {"all": categories}
    if len(categories) > 2:
        sets |= {f"all but {name}": [other for other in categories if other != name] for name in categories}
    return sets
