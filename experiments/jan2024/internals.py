"""Internal measures of the fine-tuned models, widths of their start, and probes fitted on the base.

Internal measures are the separation of safe and unsafe requests, null shares, and refusal of stitched halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from experiments.jan2024.requests import FormatRequests, RequestSettings
from makebreak.defences import ProbeTransferRow, append_instructed_answer, probe_transfer_rows
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.model_zoo import held_out_requests
from makebreak.models import load_model, n_layers, stitch_models
from makebreak.prompts import Requests, load_world
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs
from makebreak.weight_landscape import Perturbation, PointEvaluator, basin, random_direction

N_PROBE_REQUESTS = 400
"""Requests per format and class that a probe is fitted on, calibrated on and scored on."""
_PROBE_INPUTS: dict[str, Callable[[Requests], Requests]] = {
    "prompt": lambda requests: requests,
    "answer": append_instructed_answer,
}


class InternalsRow(NamedTuple):
    """Internal measures of a fine-tuned model and of the aligned one before it, on requests of one format."""

    format: str
    """Format of the requests."""
    refuse: float
    """Share of unsafe requests that the fine-tuned model refuses."""
    refuse_before: float
    """The same for the aligned model."""
    refuse_tuned_upper: float
    """The same for the aligned model's lower half with the tuned upper half."""
    refuse_tuned_lower: float
    """The same for the tuned lower half with the aligned model's upper half."""
    separation: float
    """Normalised gap of safe and unsafe requests at the last layer, means fitted on the model itself."""
    separation_before: float
    """The same for the aligned model."""
    null_share: float
    """Null share of pre-activations of unsafe requests minus that of safe ones, mean of layers; left null
    space of the base's W_in, exact rank."""
    null_share_before: float
    """The same for the aligned model."""


class WidthRow(NamedTuple):
    """Half-width of refusal of the aligned model, for requests of one format."""

    format: str
    """Format of the requests."""
    width: float
    """Relative norm at which half of the unsafe requests are not refused, mean of directions and sides; the
    end of the range on a side where that never happens."""


class ProbeRow(NamedTuple):
    """Performance of one probe of the base's middle layer on requests of one format."""

    input: str
    """What the probe reads: `prompt`, or `answer`, the prompt with the instructed answer."""
    trained_on: str
    """Formats that the probe was fitted on: the name of one, `all`, or `all but NAME`."""
    evaluated_on: str
    """Format of the requests."""
    auroc: float
    """AUROC of unsafe against safe requests."""
    recall: float
    """Share of unsafe requests that are flagged, at a nominal false positive rate of 1 % in this format."""
    recall_low: float
    """Lower end of the 95 % interval of `recall`, over requests and over the error of the threshold."""
    recall_high: float
    """Upper end of that interval."""
    fpr: float
    """Share of safe requests that are flagged at the threshold of the training formats."""


@dataclass(frozen=True)
class WidthSettings(RequestSettings):
    """Requests on which half-widths are evaluated, and the directions."""

    n_directions: int = 2
    """Random directions of a width."""
    max_norm: float = 0.5
    """Largest relative norm of a perturbation, on either side of the origin."""
    n_points: int = 21
    """Points along a direction."""


@cache_revision(3)
def internals_tables(inputs: Inputs) -> dict[str, Iterable[InternalsRow]]:
    """Table `internals`: internal measures of a fine-tuned model.

    Args:
        inputs: The base, the aligned and the fine-tuned model; settings are `RequestSettings`.

    Returns:
        One row per format of the requests.
    """
    settings: RequestSettings = inputs.settings
    symbols = load_world(settings.world).vocabulary.symbols
    base, aligned, tuned = (load_model(path, symbols=symbols) for path in inputs.models)
    half = n_layers(aligned) // 2
    rows = []
    for data in _by_format(settings):
        row = InternalsRow(
            format=data.name,
            refuse=data.refusal_rate(tuned),
            refuse_before=data.refusal_rate(aligned),
            refuse_tuned_upper=data.refusal_rate(stitch_models(aligned, tuned, half)),
            refuse_tuned_lower=data.refusal_rate(stitch_models(tuned, aligned, half)),
            separation=data.separation(tuned),
            separation_before=data.separation(aligned),
            null_share=data.null_share_difference(tuned, base),
            null_share_before=data.null_share_difference(aligned, base),
        )
        rows.append(row)
    return {"internals": rows}


def _by_format(settings: RequestSettings) -> list[FormatRequests]:
    return [FormatRequests(settings.world, name, settings.n, settings.seed) for name in settings.formats]


@cache_revision(3)
def width_tables(inputs: Inputs) -> dict[str, Iterable[WidthRow]]:
    """Table `widths`: half-widths of the aligned model in random directions.

    Args:
        inputs: The aligned model; settings are `WidthSettings`.

    Returns:
        One row per format of the requests.
    """
    settings: WidthSettings = inputs.settings
    axis = np.linspace(-settings.max_norm, settings.max_norm, settings.n_points).round(9)
    aligned = load_model(inputs.models[0], symbols=load_world(settings.world).vocabulary.symbols)

    def refusal_rates() -> dict[str, float]:
        return {data.name: data.refusal_rate(aligned) for data in _by_format(settings)}

    widths: dict[str, list[float]] = {name: [] for name in settings.formats}
    for i in range(settings.n_directions):
        perturbation = Perturbation(aligned, random_direction(aligned, i))
        evaluator = PointEvaluator(perturbation, refusal_rates, inputs.folder / f"random-{i}.jsonl")
        points = evaluator.along(axis.tolist()).values()
        for name in settings.formats:
            failure = np.array([1 - point[name] for point in points])
            widths[name].append(basin(axis, failure).r50)
    return {"widths": [WidthRow(name, float(np.mean(values))) for name, values in widths.items()]}


@cache_revision(5)
def probe_tables(inputs: Inputs) -> dict[str, Iterable[ProbeRow]]:
    """Table `probes`: probes of the base's middle layer, fitted on one format, on all, and on all but one.

    Args:
        inputs: The base; settings are `RequestSettings`.

    Returns:
        One row per input, probe and format.
    """
    settings: RequestSettings = inputs.settings
    model = load_model(inputs.models[0], symbols=load_world(settings.world).vocabulary.symbols)
    return {
        "probes": [
            ProbeRow(name, *row)
            for name, convert in _PROBE_INPUTS.items()
            for row in _probe_transfer_rows(model, settings, convert)
        ]
    }


def _probe_transfer_rows(
    model: PreTrainedModel, settings: RequestSettings, convert: Callable[[Requests], Requests]
) -> list[ProbeTransferRow]:
    """Probes of the middle layer on converted requests."""

    def requests(family: str, split: str) -> Requests:
        return convert(held_out_requests(settings.world, family, settings.n, settings.seed, split))

    def classes(split: str) -> dict[str, SafeUnsafeRequests]:
        return {
            name: SafeUnsafeRequests(requests(f"{name}_safe", split), requests(f"{name}_unsafe", split))
            for name in settings.formats
        }

    calibration = {name: requests(f"{name}_safe", "train") for name in settings.formats}
    layer = n_layers(model) // 2
    return probe_transfer_rows(model, classes("fit"), calibration, classes("score"), layer=layer)
