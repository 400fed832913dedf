"""Monitors of activations: which share of each family of requests is flagged, by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from makebreak import lm
from makebreak.api.language import Prompts, language_model_of
from makebreak.api.model import Model, result_owner
from makebreak.api.result import Drawing, Result
from makebreak.api.worlds import check_families, facts_of, sample_held_out
from makebreak.defences import (
    FALSE_POSITIVE_RATE,
    Monitor,
    detection_rate,
    fit_monitors,
    flag_requests,
    min_calibration_size,
    min_false_positive_rate,
)
from makebreak.errors import InvalidInput
from makebreak.evaluation import ChatTarget
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.plots import plot_monitors
from makebreak.prompts import Requests


class MonitorRateRow(NamedTuple):
    """Share of the requests of one family that one monitor flags."""

    kind: str
    """Kind of the monitor: `probe` or `nearest mean`."""
    layer: int
    """Layer after which the residual stream is monitored, from 0."""
    family: str
    """Family of the requests, none of which a monitor was fitted on."""
    n: int
    """Number of requests."""
    flag_rate: float
    """Share of them that is flagged."""
    low: float
    """Lower end of its 95 % interval, over requests and over the error of the threshold."""
    high: float
    """Upper end of that interval."""
    false_positive_rate: float
    """Nominal share of harmless requests that is flagged."""


def monitor_world(model: Model, families: tuple[str, ...], n: int) -> Result:
    """Monitors of a model of a world, fitted on clean requests of the half for fitting."""
    world = model.world
    assert world is not None
    check_families(world, families)
    n_calibration = min_calibration_size(FALSE_POSITIVE_RATE)
    safe = sample_held_out(model, "safe", n + n_calibration, "fit")
    fit = SafeUnsafeRequests(safe[:n], sample_held_out(model, "unsafe", n, "fit"))
    scored = dict.fromkeys(("safe", "unsafe", *families))
    requests = {family: sample_held_out(model, family, n, "score") for family in scored}
    monitors = fit_monitors(model.network, fit, safe[n:])
    return _result(model, monitors, requests, FALSE_POSITIVE_RATE, facts_of([model], n))


def monitor_language(model: Model, prompts: Prompts) -> Result:
    """Monitors of a language model, fitted on every second request of each class."""
    language_model = language_model_of(model)
    texts, target = prompts.check(language_model, 0), ChatTarget(language_model, prompts.generation)
    target.check_answers_directly("a monitor")
    n_least = min(len(texts["harmful"]), len(texts["harmless"]))
    if n_least < lm.MIN_REFERENCE_REQUESTS:
        raise InvalidInput(
            f"{n_least} requests of a class: expected at least {lm.MIN_REFERENCE_REQUESTS}, half to fit on"
        )
    requests = {family: target.encode(part, family=family) for family, part in texts.items()}
    fit = SafeUnsafeRequests(requests["harmless"][::2], requests["harmful"][::2])
    rest = {family: batch[1::2] for family, batch in requests.items() if family != "borderline"}
    if "borderline" in requests:
        rest["borderline"] = requests["borderline"]
    rate = max(FALSE_POSITIVE_RATE, min_false_positive_rate(len(rest["harmless"])))
    monitors = fit_monitors(language_model.model, fit, rest["harmless"], false_positive_rate=rate)
    del rest["harmless"]  # they set the thresholds
    return _result(model, monitors, rest, rate, prompts.facts(texts, model=language_model))


def _result(
    model: Model,
    monitors: Mapping[tuple[str, int], Monitor],
    requests: Mapping[str, Requests],
    rate: float,
    facts: dict[str, str],
) -> Result:
    rows = []
    for family, batch in requests.items():
        flags = flag_requests(list(monitors.values()), model.network, batch)
        for (kind, layer), each in zip(monitors, flags, strict=True):
            rows.append(MonitorRateRow(kind, layer, family, len(batch), *detection_rate(each), rate))
    table = pd.DataFrame(rows)
    unsafe = "unsafe" if "unsafe" in requests else "harmful"
    best = table[table.family == unsafe].nlargest(1, "flag_rate").iloc[0]
    caption = (
        "Share of requests that a monitor of the residual stream flags, by layer; monitors are fitted on "
        "other, clean requests. Dotted: nominal false positive rate. Bands: 95 % intervals over requests and "
        "over the error of the threshold."
    )
    summary = [
        f"At a nominal false positive rate of {rate:.3f}, the {best.kind} monitor after layer "
        f"{best.layer + 1} flags the greatest share of {unsafe} requests: {best.flag_rate:.2f} "
        f"[{best.low:.2f}, {best.high:.2f}] of {best.n}. The layer was chosen on these requests, so that the "
        "rate is too favourable."
    ]
    return Result(
        f"the monitors of {model.name}",
        result_owner("makebreak.monitor", model),
        {"monitors": table},
        summary,
        {"monitors": Drawing("Flagged requests by layer", caption, lambda: plot_monitors(table))},
        facts,
    )
