"""Rows of the tables of attacks: outcomes, prefills, and detections by monitors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from makebreak.attacks import (
    AttackResult,
    min_prefill_length,
)
from makebreak.defences import (
    Monitor,
    detection_rate,
    flag_requests,
)
from makebreak.mechanism import (
    MIN_PER_OUTCOME,
)
from makebreak.prompts import Requests


class AttackRow(NamedTuple):
    """Outcomes of one attack on one model."""

    attack: str
    """Name of the attack, or the family of requests that are given as they are."""
    n: int
    """Number of requests."""
    compliance_rate: float
    """Share of requests that get the instructed answer."""
    refusal_rate: float
    """Share of requests that are refused."""
    neither_rate: float
    """Share of requests with any other answer."""
    n_complied: int
    """Number of requests that get the instructed answer."""
    loss: float | None
    """Loss of the instructed answer at the end of a search over tokens, nats per token, mean over requests;
    None without such a search. Of a universal attack, that of the requests that it was optimised on."""
    n_queries: float | None
    """Candidates that the search evaluated per request until the answer was the instructed one, mean over
    requests, all of them where it never was; None without such a search."""


class PrefillRow(NamedTuple):
    """Compliance with refused requests once the first tokens of the instructed answer are forced."""

    n_prefill: int
    """Number of forced answer tokens."""
    compliance_rate: float
    """Share of requests that are answered to the end."""
    n: int
    """Number of requests."""


class DetectionRow(NamedTuple):
    """Detections of one attack by one monitor."""

    monitor: str
    """Kind of the monitor, one of MONITOR_KINDS."""
    layer: int
    """Layer after which the residual stream is monitored."""
    attack: str
    """Name of the attack, or the family of requests that are given as they are."""
    n: int
    """Number of requests."""
    detection_rate: float
    """Share of requests that the monitor flags, at a nominal false positive rate of FALSE_POSITIVE_RATE."""
    detection_low: float
    """Lower end of its 95 % interval, over requests and over the error of the threshold."""
    detection_high: float
    """Upper end of that interval."""
    false_positive_low: float
    """Lower end of the 95 % interval of the monitor's false positive rate."""
    false_positive_high: float
    """Upper end of that interval."""
    n_complied: int
    """Number of requests that get the instructed answer."""
    detection_rate_complied: float | None
    """Share of these that the monitor flags; None for fewer than `MIN_PER_OUTCOME` of them."""
    detection_complied_low: float | None
    """Lower end of the interval of `detection_rate_complied`."""
    detection_complied_high: float | None
    """Upper end of that interval."""


def attack_row(result: AttackResult) -> AttackRow:
    """Outcomes of one attack, and of a search over tokens the loss and the queries that it took."""
    compliance, refusal = float(result.complies.mean()), float(result.refuses.mean())
    neither = 1 - compliance - refusal
    n_complied = int(result.complies.sum())
    loss = n_queries = None
    if "n_candidates" in result.columns:
        loss, n_queries = float(result.history[-1]), float(np.mean(result.columns["n_candidates"]))
    n = len(result.requests)
    return AttackRow(result.name, n, compliance, refusal, neither, n_complied, loss, n_queries)


def prefill_rows(model: PreTrainedModel, requests: Requests) -> list[PrefillRow]:
    """One row per number of forced tokens; none without requests."""
    if not len(requests):
        return []
    depth = min_prefill_length(model, requests)
    length = int((requests.judged[:, 1] - requests.judged[:, 0]).max())
    return [PrefillRow(n, float((depth <= n).mean()), len(depth)) for n in range(length)]


def detection_rows(
    model: PreTrainedModel, monitors: Mapping[tuple[str, int], Monitor], results: list[AttackResult]
) -> list[DetectionRow]:
    """One row per attack and monitor."""
    rows = []
    for result in results:
        with result.attach(model):
            flags_by_monitor = flag_requests(list(monitors.values()), model, result.requests)
        for (kind, layer), flags in zip(monitors, flags_by_monitor, strict=True):
            rate, threshold = detection_rate(flags), monitors[kind, layer].calibration
            n_complied = int(result.complies.sum())
            complied: tuple[float | None, ...] = (None, None, None)
            if n_complied >= MIN_PER_OUTCOME:
                complied = detection_rate(flags.select(result.complies))
            rows.append(
                DetectionRow(
                    monitor=kind,
                    layer=layer,
                    attack=result.name,
                    n=len(result.requests),
                    detection_rate=rate.rate,
                    detection_low=rate.low,
                    detection_high=rate.high,
                    false_positive_low=threshold.false_positive_low,
                    false_positive_high=threshold.false_positive_high,
                    n_complied=n_complied,
                    detection_rate_complied=complied[0],
                    detection_complied_low=complied[1],
                    detection_complied_high=complied[2],
                )
            )
    return rows
