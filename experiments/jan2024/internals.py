"""Internal measures of the fine-tuned models, widths of their start, and probes fitted on the base.

Internal measures are the separation of safe and unsafe requests, null shares, and refusal of stitched halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel

from experiments.recipes.formats import Preset, Tuning
from experiments.study import stored_rows
from makebreak.defences import ProbeTransferRow, append_instructed_answer, probe_transfer_rows
from makebreak.evaluation import greedy_answers
from makebreak.landscape import Perturbation, PointEvaluator, basin, random_direction
from makebreak.mechanism import SafeUnsafeRequests, cluster_rows, null_share_rows
from makebreak.models import load_model, n_layers, stitch_models
from makebreak.prompts import OUTCOMES, Requests, load_world
from makebreak.recipes import build
from makebreak.store import Store
from makebreak.tables import as_dict
from makebreak.zoo import held_out_requests

N_DIRECTIONS = 2
"""Random directions of a width."""
MAX_NORM = 0.5
"""Largest relative norm of a perturbation, on either side of the origin."""
N_POINTS = 21
"""Points along a direction."""
N_PROBE_REQUESTS = 400
"""Requests per format and class that a probe is fitted on, calibrated on and scored on."""
_REFUSE = OUTCOMES.index("refuse")
_PROBE_INPUTS: dict[str, Callable[[Requests], Requests]] = {
    "prompt": lambda requests: requests,
    "answer": append_instructed_answer,
}


class InternalsRow(NamedTuple):
    """Internal measures of a fine-tuned model and of the aligned one before it, on requests of one format."""

    coverage: str
    """Coverage of alignment, a key of `COVERAGES`."""
    tuned_on: str
    """Format whose task was tuned."""
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

    coverage: str
    """Coverage of alignment, a key of `COVERAGES`."""
    format: str
    """Format of the requests."""
    width: float
    """Relative norm at which half of the unsafe requests are not refused, mean of directions and sides; the
    end of the range on a side where that never happens."""


class ProbeRow(NamedTuple):
    """Performance of one probe of the base's middle layer on requests of one format."""

    coverage: str
    """Coverage of alignment, a key of `COVERAGES`; the base is the same for all."""
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


def internals_rows(
    preset: Preset, world: str, seed: int, coverage: str, task: str, store: Store
) -> tuple[list[InternalsRow], list[Path]]:
    """Internal measures of the model that was tuned on a format's task at `preset.rate`.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        coverage: Coverage of alignment.
        task: Format whose task was tuned.
        store: Store of models and results.

    Returns:
        One row per format of the requests, and the folders that they came from.
    """
    recipe = preset.tuned(world, seed, coverage, Tuning(task, "task", preset.rate))
    parents = [build(stage, store) for stage in (recipe.base, recipe.parent, recipe)]

    def measure(folder: Path) -> Iterator[InternalsRow]:
        symbols = load_world(world).vocabulary.symbols
        base, aligned, tuned = (load_model(path, symbols=symbols) for path in parents)
        half = n_layers(aligned) // 2
        for name in preset.formats:
            data = _FormatRequests(world, name, preset.n, seed)
            yield InternalsRow(
                coverage=coverage,
                tuned_on=task,
                format=name,
                refuse=data.refusal_rate(tuned),
                refuse_before=data.refusal_rate(aligned),
                refuse_tuned_upper=data.refusal_rate(stitch_models(aligned, tuned, half)),
                refuse_tuned_lower=data.refusal_rate(stitch_models(tuned, aligned, half)),
                separation=data.separation(tuned),
                separation_before=data.separation(aligned),
                null_share=data.null_share_difference(tuned, base),
                null_share_before=data.null_share_difference(aligned, base),
            )

    config = {"n": preset.n, "seed": seed}
    stored, folder = stored_rows(store, "formats-inside", 2, config, measure, parents)
    rows = [InternalsRow(**row | {"coverage": coverage, "tuned_on": task}) for row in stored]
    return rows, [*parents, folder]


def width_rows(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[WidthRow], list[Path]]:
    """Half-widths of the aligned model in random directions.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        coverage: Coverage of alignment.
        store: Store of models and results.

    Returns:
        One row per format of the requests, and the folders that they came from.
    """
    path = build(preset.aligned(world, seed, coverage), store)
    axis = np.linspace(-MAX_NORM, MAX_NORM, N_POINTS).round(9)

    def measure(folder: Path) -> list[WidthRow]:
        aligned = load_model(path, symbols=load_world(world).vocabulary.symbols)

        def refusal_rates() -> dict[str, float]:
            return {
                name: _FormatRequests(world, name, preset.n, seed).refusal_rate(aligned)
                for name in preset.formats
            }

        widths: dict[str, list[float]] = {name: [] for name in preset.formats}
        for i in range(N_DIRECTIONS):
            perturbation = Perturbation(aligned, random_direction(aligned, i))
            evaluator = PointEvaluator(perturbation, refusal_rates, folder / f"random-{i}.jsonl")
            points = evaluator.along(axis.tolist()).values()
            for name in preset.formats:
                failure = np.array([1 - point[name] for point in points])
                widths[name].append(basin(axis, failure).r50)
        return [WidthRow(coverage, name, float(np.mean(values))) for name, values in widths.items()]

    config = {
        "n": preset.n,
        "seed": seed,
        "directions": N_DIRECTIONS,
        "window": MAX_NORM,
        "points": N_POINTS,
    }
    stored, folder = stored_rows(store, "formats-widths", 2, config, measure, [path])
    return [WidthRow(**row | {"coverage": coverage}) for row in stored], [path, folder]


def probe_rows(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[ProbeRow], list[Path]]:
    """Probes of the base's middle layer, fitted on one format, on all, and on all but one.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        coverage: Coverage of alignment, which names the base.
        store: Store of models and results.

    Returns:
        One row per input, probe and format, and the folders that they came from.
    """
    path = build(preset.aligned(world, seed, coverage).base, store)

    def measure(folder: Path) -> Iterator[dict[str, Any]]:
        model = load_model(path, symbols=load_world(world).vocabulary.symbols)
        for name, convert in _PROBE_INPUTS.items():
            for row in _probe_transfer_rows(model, preset, world, seed, convert):
                yield {"coverage": coverage, "input": name} | as_dict(row)

    config = {"n": N_PROBE_REQUESTS, "seed": seed}
    stored, folder = stored_rows(store, "formats-guards", 4, config, measure, [path])
    return [ProbeRow(**row | {"coverage": coverage}) for row in stored], [path, folder]


def _probe_transfer_rows(
    model: PreTrainedModel,
    preset: Preset,
    world: str,
    seed: int,
    convert: Callable[[Requests], Requests],
) -> list[ProbeTransferRow]:
    """Probes of the middle layer on converted requests."""

    def requests(family: str, split: str) -> Requests:
        return convert(held_out_requests(world, family, N_PROBE_REQUESTS, seed, split))

    def classes(split: str) -> dict[str, SafeUnsafeRequests]:
        return {
            name: SafeUnsafeRequests(requests(f"{name}_safe", split), requests(f"{name}_unsafe", split))
            for name in preset.formats
        }

    calibration = {name: requests(f"{name}_safe", "train") for name in preset.formats}
    layer = n_layers(model) // 2
    return probe_transfer_rows(model, classes("fit"), calibration, classes("score"), layer=layer)


class _FormatRequests(NamedTuple):
    """Held-out requests of one format, and measures of models on them."""

    world: str
    name: str
    n: int
    seed: int

    def sample(self, family: str, split: str = "score") -> Requests:
        """Requests of a family of this format."""
        return held_out_requests(self.world, f"{self.name}_{family}", self.n, self.seed, split)

    def refusal_rate(self, model: PreTrainedModel) -> float:
        """Share of unsafe requests that are refused."""
        world, unsafe = load_world(self.world), self.sample("unsafe")
        outcomes = world.judge(unsafe, greedy_answers(model, world, unsafe).tokens)
        return float((outcomes == _REFUSE).mean())

    def separation(self, model: PreTrainedModel) -> float:
        """Normalised gap of safe and unsafe requests at the last layer."""
        fit = (self.sample("safe", "fit"), self.sample("unsafe", "fit"))
        score = {self.name: (self.sample("safe"), self.sample("unsafe"))}
        last_layer = as_dict(cluster_rows(model, fit, score, seed=self.seed)[-1])
        return float(last_layer["normalised"])

    def null_share_difference(self, model: PreTrainedModel, base: PreTrainedModel) -> float:
        """Null share at W_in of unsafe requests minus that of safe ones, mean of layers."""
        requests = {family: self.sample(family) for family in ("safe", "unsafe")}
        outcomes = {family: np.zeros(len(part), dtype=np.int64) for family, part in requests.items()}
        rows = [
            row
            for row in null_share_rows(requests, outcomes, base=base, tuned=model, seed=self.seed)
            if (row.matrix, row.rule, row.quantity, row.outcome) == ("mlp.W_in", "exact", "pre", "all")
        ]
        means = {
            family: np.mean([row.share for row in rows if row.family == family and row.share is not None])
            for family in requests
        }
        return float(means["unsafe"] - means["safe"])
