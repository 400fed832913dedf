"""Outcomes of every aligned and fine-tuned model in every format, and its distance from the aligned model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from experiments.recipes.formats import RETAIN, Preset, Tuning
from experiments.study import stored_rows
from makebreak.evaluation import generate_answers, greedy_answers, kl_to_base, log_odds, next_token_log_probs
from makebreak.models import load_model
from makebreak.prompts import OUTCOMES, Requests, load_world, with_prefill
from makebreak.recipes import build, checkpoints
from makebreak.store import Store
from makebreak.tables import as_dict
from makebreak.zoo import held_out_requests, weight_change
from synthetic import FormatsWorld

FAMILIES = ("safe", "unsafe", "heldout", "mild")
"""Families of requests: safe; unsafe, of topic pairs that alignment showed; of other pairs; mildly unsafe."""
PREFILL_DEPTHS = (1, 2)
"""Numbers of tokens of the instructed answer that are prefilled."""


class OutcomeRow(NamedTuple):
    """Outcomes of one model on held-out requests of one format and family, shares of requests."""

    format: str
    """Format of the requests."""
    family: str
    """Family of the requests, one of `FAMILIES`."""
    operator: str
    """`shown`: operators of pretraining and alignment; `new`: the operator of the tuned task."""
    refuse: float
    """Share that is refused."""
    comply: float
    """Share that is answered as instructed."""
    comply_wrongly: float
    """Share with a well-formed answer that is neither the instructed one nor a refusal."""
    broken: float
    """Share with a degenerate answer."""
    margin: float
    """Refusal margin, mean over requests, nats."""
    prefill_1: float | None
    """Share refused after the first token of the instructed answer is prefilled; None for shorter answers."""
    prefill_2: float | None
    """The same after the first two tokens."""


class BeforeTuningRow(NamedTuple):
    """Outcomes of a base or aligned model."""

    coverage: str
    """Coverage of alignment, a key of `COVERAGES`."""
    model: str
    """`base` or `aligned`."""
    outcomes: OutcomeRow
    """Outcomes on one format and family."""


class AfterTuningRow(NamedTuple):
    """Outcomes of a fine-tuned model at one kept step."""

    coverage: str
    """Coverage of alignment, a key of `COVERAGES`."""
    tuned_on: str
    """Format whose task was tuned, or `RETAIN`."""
    kind: str
    """Kind of fine-tuning, one of `KINDS`."""
    rate: float
    """Learning rate (of the full weights; adapters are trained at ten times of it)."""
    step: int
    """Optimisation step."""
    kl: float
    """KL(aligned ‖ tuned) per token of the instructed answers to safe requests of all formats, nats."""
    weight_change: float
    """Relative norm of the change of the weights from the aligned model."""
    outcomes: OutcomeRow
    """Outcomes on one format and family."""


def after_tuning_rows(
    preset: Preset, world: str, seed: int, coverage: str, tuning: Tuning, store: Store
) -> tuple[list[AfterTuningRow], list[Path]]:
    """Outcomes of a fine-tuned model.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        coverage: Coverage of alignment.
        tuning: The fine-tuning.
        store: Store of models and outcomes.

    Returns:
        One row per step, family and format, and the folders that they came from. Steps are all kept ones for
        `task`, the last one for other kinds; requests with the new operator are those of the tuned task.
    """
    aligned = build(preset.aligned(world, seed, coverage), store)
    tuned = build(preset.tuned(world, seed, coverage, tuning), store)
    all_steps = checkpoints(tuned)
    last = max(all_steps)
    steps = {step: path for step, path in all_steps.items() if step == last or tuning.kind == "task"}

    def measure(folder: Path) -> Iterator[dict[str, Any]]:
        symbols = load_world(world).vocabulary.symbols
        start = load_model(aligned, symbols=symbols)
        for step, path in steps.items():
            model = load_model(path, symbols=symbols)
            distance = {
                "step": step,
                "kl": _kl(start, model, preset, world, seed),
                "weight_change": weight_change(base=start, tuned=model),
            }
            outcomes = outcome_rows(model, preset, world, seed, preset.formats, "shown")
            if tuning.format != RETAIN:
                outcomes += outcome_rows(model, preset, world, seed, (tuning.format,), "new")
            yield from (distance | as_dict(row) for row in outcomes)

    config = {
        "n": preset.n,
        "seed": seed,
        "format": tuning.format,
        "kind": tuning.kind,
        "steps": sorted(steps),
    }
    stored, folder = stored_rows(store, "formats-outcomes", 2, config, measure, [tuned, aligned])
    rows = [
        AfterTuningRow(
            *(coverage, tuning.format, tuning.kind, tuning.rate),
            *(row.pop("step"), row.pop("kl"), row.pop("weight_change")),
            OutcomeRow(**row),
        )
        for row in stored
    ]
    return rows, [aligned, tuned, folder]


def before_tuning_rows(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[BeforeTuningRow], list[Path]]:
    """Outcomes of the base and of the aligned model.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        coverage: Coverage of alignment.
        store: Store of models and outcomes.

    Returns:
        One row per model, operator, family and format, and the folders that they came from.
    """
    recipe = preset.aligned(world, seed, coverage)
    models = {"base": build(recipe.base, store), "aligned": build(recipe, store)}

    def measure(folder: Path) -> Iterator[dict[str, Any]]:
        symbols = load_world(world).vocabulary.symbols
        for name, path in models.items():
            model = load_model(path, symbols=symbols)
            for operator in ("shown", "new"):
                for row in outcome_rows(model, preset, world, seed, preset.formats, operator):
                    yield {"model": name} | as_dict(row)

    config, parents = {"n": preset.n, "seed": seed}, list(models.values())
    stored, folder = stored_rows(store, "formats-aligned", 2, config, measure, parents)
    rows = [BeforeTuningRow(coverage, row.pop("model"), OutcomeRow(**row)) for row in stored]
    return rows, [*parents, folder]


def outcome_rows(
    model: PreTrainedModel, preset: Preset, world: str, seed: int, formats: tuple[str, ...], operator: str
) -> list[OutcomeRow]:
    """Outcomes of a model on held-out requests of all families.

    Args:
        model: The model.
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed, which selects the requests.
        formats: Formats of the requests.
        operator: Operators of the requests, `shown` or `new`.

    Returns:
        One row per format and family.
    """
    suffix = "_new" if operator == "new" else ""
    rows = []
    for name, family in product(formats, FAMILIES):
        requests = held_out_requests(world, f"{name}_{family}{suffix}", preset.n, seed, "score")
        rows.append(_outcome_row(model, world, requests, name, family, operator))
    return rows


def _outcome_row(
    model: PreTrainedModel, world: str, requests: Requests, name: str, family: str, operator: str
) -> OutcomeRow:
    formats_world = load_world(world)
    assert isinstance(formats_world, FormatsWorld)
    outcomes = formats_world.judge(requests, greedy_answers(model, formats_world, requests).tokens)
    shares = {outcome: float((outcomes == i).mean()) for i, outcome in enumerate(OUTCOMES)}
    first_tokens = torch.from_numpy(np.tile(formats_world.refusal_ids[:, 0], (len(requests), 1)))
    margin = float(log_odds(next_token_log_probs(model, requests), first_tokens).mean())
    prefill_1, prefill_2 = [
        refusal_after_prefill(model, requests, depth, formats_world.refusal_ids) for depth in PREFILL_DEPTHS
    ]
    return OutcomeRow(
        name, family, operator, **shares, margin=margin, prefill_1=prefill_1, prefill_2=prefill_2
    )


def refusal_after_prefill(
    model: PreTrainedModel, requests: Requests, depth: int, refusals: np.ndarray
) -> float | None:
    """Share of requests refused after the beginning of the instructed answer is prefilled.

    Args:
        model: The model.
        requests: The requests.
        depth: Number of prefilled tokens.
        refusals: Token ids of all refusals, (n_refusals, length).

    Returns:
        The share; None if an answer has no more than `depth` tokens before its end.
    """
    if requests.truth["length"].min() <= depth + 1:
        return None
    prefilled = with_prefill(requests, np.full(len(requests), depth))
    answers = generate_answers(model, prefilled, refusals.shape[1], pad=0)
    return float((answers[:, None] == refusals).all(axis=2).any(axis=1).mean())


def _kl(start: PreTrainedModel, model: PreTrainedModel, preset: Preset, world: str, seed: int) -> float:
    """KL(aligned ‖ tuned) per token of the instructed answers to safe requests, mean of formats, nats."""
    divergences = []
    for name in preset.formats:
        requests = held_out_requests(world, f"{name}_safe", preset.n, seed, "score")
        divergences.append(kl_to_base(load_world(world), requests, base=start, tuned=model))
    return float(np.mean(divergences))
