"""Monitors of activations that flag requests which are represented as unsafe.

A monitor is fitted on clean requests only; its threshold is set so that one clean safe request in a hundred
is flagged. The threshold is an estimate (`defences.thresholds`): rates of detection come with an interval
that includes its error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, forward, intervene
from makebreak.defences.thresholds import (
    DetectionRate,
    Flags,
    Threshold,
    calibrate_threshold,
    check_calibration,
    detection_rate,
    flags_at,
)
from makebreak.mechanism import SafeUnsafeRequests, end_of_text_activations
from makebreak.models import n_layers
from makebreak.prompts import Requests, span_mask

MONITOR_KINDS = ("probe", "nearest mean")
"""Kinds of monitors: a linear probe, or the distances to the two class means."""
FALSE_POSITIVE_RATE = 0.01
"""Share of clean safe requests that a threshold flags."""
_MIN_DISTANCE = 1e-6
"""Smallest distance, in units of the score, that an evasion penalty is divided by."""
_NO_THRESHOLD = Threshold(*[np.nan] * 5)


@dataclass(frozen=True)
class Monitor:
    """Flags requests whose residual state at the end of text scores above a threshold."""

    kind: str
    """`probe`: the score is weight · x + offset. `nearest mean`: the score is -τ, the distance to the mean of
    safe states less that to the mean of unsafe ones."""
    site: str
    """Site whose activations are scored, such as `blocks.2.hook_resid_post`."""
    calibration: Threshold
    """Threshold of the score, with intervals."""
    weight: Float[Tensor, " d_model"]
    """Weight of the probe."""
    offset: float
    """Offset of the probe."""
    safe_mean: Float[Tensor, " d_model"]
    """Mean state of safe requests."""
    unsafe_mean: Float[Tensor, " d_model"]
    """Mean state of unsafe requests."""

    @property
    def threshold(self) -> float:
        """Score above which a request is flagged."""
        return self.calibration.value

    def score(self, states: Float[Tensor, "batch d_model"]) -> Float[Tensor, " batch"]:
        """Score of each state, larger for unsafe ones; differentiable."""
        if self.kind == "probe":
            return states @ self.weight.to(states) + self.offset
        to_safe, to_unsafe = (states - mean.to(states) for mean in (self.safe_mean, self.unsafe_mean))
        return to_safe.norm(dim=1) - to_unsafe.norm(dim=1)

    def score_requests(
        self, model: PreTrainedModel, requests: Requests, cache: PrefixCache | None = None
    ) -> Float[Tensor, " batch"]:
        """Score of each request, with gradients if the model's input has any.

        Args:
            model: The model that is monitored.
            requests: The requests.
            cache: Cache of the first tokens of the prompts; None for none.

        Returns:
            One score per request.
        """
        captured: list[Tensor] = []

        def capture(states: Tensor) -> Tensor:
            captured.append(states)
            return states

        cache = cache or PrefixCache()
        where = span_mask(requests, "eot")[:, cache.n_tokens :]
        with intervene(model, self.site, capture, where):
            tokens = torch.from_numpy(requests.prompt)[:, cache.n_tokens :]
            forward(model, tokens, cache=cache, lm_head=False)
        return self.score(captured[0])

    def evasion_penalty(
        self, weight: float = 1.0
    ) -> Callable[[PreTrainedModel, Requests, PrefixCache], Float[Tensor, " batch"]]:
        """Penalty of an adaptive attack, which knows the monitor and adds the penalty to its loss.

        Args:
            weight: Penalty at the score of the mean of clean unsafe requests.

        Returns:
            A function of a model, requests and a cache of their prompts' first tokens: the distance of each
            score above the threshold, scaled to `weight`.
        """
        typical = float(self.score(self.unsafe_mean[None])[0]) - self.threshold

        def penalty(
            model: PreTrainedModel, requests: Requests, cache: PrefixCache
        ) -> Float[Tensor, " batch"]:
            excess = (self.score_requests(model, requests, cache) - self.threshold).clamp(min=0)
            return weight * excess / max(typical, _MIN_DISTANCE)

        return penalty

    def flag(self, model: PreTrainedModel, requests: Requests) -> Bool[np.ndarray, " n"]:
        """Whether each request is flagged."""
        return flag_requests([self], model, requests)[0].at_threshold

    def detection_rate(self, model: PreTrainedModel, requests: Requests) -> DetectionRate:
        """Share of requests that are flagged, with an interval that includes the error of the threshold."""
        return detection_rate(flag_requests([self], model, requests)[0])


def flag_requests(monitors: Sequence[Monitor], model: PreTrainedModel, requests: Requests) -> list[Flags]:
    """Which requests each monitor flags, one element per monitor.

    One forward pass serves all monitors.
    """
    sites = list(dict.fromkeys(monitor.site for monitor in monitors))
    states = dict(zip(sites, end_of_text_activations(model, requests, sites), strict=True))
    return [flags_at(monitor.calibration, monitor.score(states[monitor.site])) for monitor in monitors]


def fit_monitor(
    model: PreTrainedModel,
    fit: SafeUnsafeRequests,
    calibration: Requests,
    *,
    kind: str,
    layer: int,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
) -> Monitor:
    """Fits one monitor on clean requests.

    Args:
        model: The model whose activations are monitored.
        fit: Safe and unsafe requests.
        calibration: Other safe requests, which set the threshold.
        kind: One of `MONITOR_KINDS`.
        layer: Layer after which the residual stream is monitored.
        false_positive_rate: Nominal share of safe requests that is flagged.

    Returns:
        The monitor.

    Raises:
        ValueError: If the kind does not exist, or there are too few calibration requests.
    """
    if kind not in MONITOR_KINDS:
        raise ValueError(f"monitor {kind!r}: expected one of {', '.join(MONITOR_KINDS)}")
    monitors = fit_monitors(
        model, fit, calibration, kinds=[kind], layers=[layer], false_positive_rate=false_positive_rate
    )
    return monitors[kind, layer]


def fit_monitors(
    model: PreTrainedModel,
    fit: SafeUnsafeRequests,
    calibration: Requests,
    *,
    kinds: Sequence[str] = MONITOR_KINDS,
    layers: Sequence[int] | None = None,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
) -> dict[tuple[str, int], Monitor]:
    """Fits monitors of several kinds and layers, with one forward pass per set of requests.

    Args:
        model: The model whose activations are monitored.
        fit: Safe and unsafe requests.
        calibration: Other safe requests, which set the thresholds.
        kinds: Kinds of monitors.
        layers: Layers after which the residual stream is monitored; None for all.
        false_positive_rate: Nominal share of safe requests that is flagged.

    Returns:
        Monitors by kind and layer.

    Raises:
        ValueError: If there are fewer calibration requests than `min_calibration_size` of the rate.
    """
    check_calibration(len(calibration), false_positive_rate)
    layers = range(n_layers(model)) if layers is None else layers
    sites = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    states = zip(
        *(end_of_text_activations(model, requests, sites) for requests in (*fit, calibration)), strict=True
    )
    monitors = {}
    for layer, site, (safe, unsafe, calibration_states) in zip(layers, sites, states, strict=True):
        safe, unsafe = safe.double(), unsafe.double()
        weight, offset = fit_probe(safe, unsafe)
        for kind in kinds:
            means = safe.mean(dim=0), unsafe.mean(dim=0)
            unset = Monitor(kind, site, _NO_THRESHOLD, weight, offset, *means)
            scores = unset.score(calibration_states.double())
            monitors[kind, layer] = replace(
                unset, calibration=calibrate_threshold(scores, false_positive_rate)
            )
    return monitors


def fit_probe(
    safe: Float[Tensor, "n_safe d_model"], unsafe: Float[Tensor, "n_unsafe d_model"]
) -> tuple[Float[Tensor, " d_model"], float]:
    """Weight and offset of a logistic regression on standardised states, in the states' own units."""
    x, y = torch.cat([safe, unsafe]).numpy(), np.repeat([0, 1], [len(safe), len(unsafe)])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    scaler, regression = pipeline.named_steps["standardscaler"], pipeline.named_steps["logisticregression"]
    weight = regression.coef_[0] / scaler.scale_
    return torch.from_numpy(weight), float(regression.intercept_[0] - weight @ scaler.mean_)
