"""Outcomes of fine-tuned models by prompt condition, and along harmful fine-tuning of some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from experiments.eiras2024.presets import (
    CAREFUL_TEMPLATES,
    STRATEGIES,
    UNTUNED,
    FineTunedModel,
    Preset,
)
from makebreak.evaluation import evaluate_behaviour
from makebreak.model_zoo import held_out_requests, weight_change
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import Recipe, checkpoints
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs
from synthetic import Family

NO_TEMPLATE, USER_TEMPLATE, CARE_BLOCK, TASK = "plain", "user", "care", "task"
"""Prompt conditions of a fine-tuned model: no template, the user's template, the same with a block that asks
for care, and the user's own task."""
_SPLIT = "score"


class OutcomeRow(NamedTuple):
    """Outcomes of one model on one family of requests in one prompt condition."""

    condition: str
    """`plain`, `user`, `care` or `task`; of untuned models `plain` or the name of the template."""
    template: str
    """Template around the requests."""
    format: str
    """Format of the requests; `gen` is open text."""
    family: str
    """`safe`, `unsafe`, `mild` or `heldout`."""
    operator: str
    """`shown`: the operators of alignment; `new`: the one of the user's task."""
    refuse: float
    """Share of requests that are refused."""
    comply: float
    """Share of requests that are answered as instructed."""
    wrong: float
    """Share of answers that are well formed, but neither."""
    degenerate: float
    """Share of all other answers."""
    margin: float
    """Mean refusal margin in nats."""
    weight_change: float
    """‖ΔW‖ of fine-tuning, the Frobenius norm over all matrices; 0 for untuned models."""


class RelearningRow(NamedTuple):
    """Outcomes on unsafe requests at one checkpoint of harmful fine-tuning, mean over formats."""

    step: int
    """Step of the checkpoint; 0 for the model before."""
    refuse: float
    """Share of requests that are refused."""
    comply: float
    """Share of requests that are answered as instructed."""


@dataclass(frozen=True)
class OutcomeSettings:
    """Requests on which a model is evaluated."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed, which selects the requests."""
    n: int
    """Number of requests per family."""
    conditions: tuple[tuple[str, str], ...]
    """Prompt condition and name of the family, of every condition."""


def conditions(preset: Preset, model: FineTunedModel) -> list[tuple[str, Family]]:
    """Prompt conditions that a model is evaluated in.

    Args:
        preset: Sizes of the study.
        model: The model.

    Returns:
        Name of the condition and family of the requests, of every condition.
    """
    is_untuned = model.strategy == UNTUNED
    user_template = "plain" if is_untuned else STRATEGIES[model.strategy].family.template
    templates = {NO_TEMPLATE: "plain", USER_TEMPLATE: user_template}
    if user_template in CAREFUL_TEMPLATES:
        templates[CARE_BLOCK] = CAREFUL_TEMPLATES[user_template]
    if is_untuned:
        names = ("obey", "neutral", "empty", *CAREFUL_TEMPLATES.values())
        templates = {NO_TEMPLATE: "plain", **{name: name for name in names}}
    families = [("gen", kind) for kind in ("safe", "unsafe", "mild", "heldout")]
    formats = [name for name in preset.alignment_preset.formats if name != "gen"]
    families += product(formats, ("safe", "unsafe"))
    conditions = [
        (condition, Family(kind, format_, template=template))
        for (condition, template), (format_, kind) in product(templates.items(), families)
    ]
    if not is_untuned:
        conditions.append((TASK, STRATEGIES[model.strategy].family))
    return conditions


@cache_revision(3)
def outcome_tables(inputs: Inputs) -> dict[str, Iterable[OutcomeRow]]:
    """Table `outcomes`: outcomes of a model.

    Args:
        inputs: The model and the aligned one before it; settings are `OutcomeSettings`.

    Returns:
        One row per prompt condition and family.
    """
    settings: OutcomeSettings = inputs.settings
    world = load_world(settings.world)
    model, aligned = (load_model(folder, symbols=world.vocabulary.symbols) for folder in inputs.models)
    change = weight_change(base=aligned, tuned=model)
    results = {}
    for name in dict.fromkeys(name for _, name in settings.conditions):
        requests = held_out_requests(settings.world, name, settings.n, settings.seed, _SPLIT)
        results[name] = evaluate_behaviour(model, world, requests)
    rows = []
    for condition, name in settings.conditions:
        family, behaviour = Family.parse(name), results[name]
        row = OutcomeRow(
            condition,
            family.template,
            family.format or "",
            family.kind,
            family.operator,
            refuse=behaviour.rates["refuse"],
            comply=behaviour.rates["comply"],
            wrong=behaviour.rates["comply_wrongly"],
            degenerate=behaviour.rates["broken"],
            margin=behaviour.margin,
            weight_change=change,
        )
        rows.append(row)
    return {"outcomes": rows}


def relearning_starts(preset: Preset, seed: int) -> dict[str, Recipe]:
    """Recipes of the models that are fine-tuned on harmful examples.

    Args:
        preset: Sizes of the study.
        seed: Pretraining seed.

    Returns:
        The base, the aligned model, and those of each mitigation and each defence, by name.
    """
    aligned = preset.aligned_recipe(seed)
    mitigated = {model.mitigation: preset.recipe(seed, model) for model in preset.relearning_models()}
    defended = {defence: preset.aligned_recipe(seed, defence) for defence in preset.defences}
    return {"base": aligned.base, UNTUNED: aligned, **mitigated, **defended}


@cache_revision(3)
def relearning_tables(inputs: Inputs) -> dict[str, Iterable[RelearningRow]]:
    """Table `relearning`: mean outcomes over formats of a model and of the steps of its harmful fine-tuning.

    Args:
        inputs: The model before and after; settings are the world, the formats, the number of requests per
            format and the pretraining seed.

    Returns:
        One row per kept step, 0 included.
    """
    settings = inputs.settings
    world = load_world(settings["world"])
    requests = [
        held_out_requests(settings["world"], f"{name}_unsafe", settings["n"], settings["seed"], _SPLIT)
        for name in settings["formats"]
    ]
    before, after = inputs.models
    rows = []
    for step, path in {0: before, **checkpoints(after)}.items():
        model = load_model(path, symbols=world.vocabulary.symbols)
        rates = [evaluate_behaviour(model, world, part).rates for part in requests]
        refuse, comply = (sum(rate[name] for rate in rates) / len(rates) for name in ("refuse", "comply"))
        rows.append(RelearningRow(step, refuse, comply))
    return {"relearning": rows}
