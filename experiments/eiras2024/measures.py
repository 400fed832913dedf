"""Outcomes of fine-tuned models by prompt condition, and along harmful fine-tuning of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from experiments.eiras2024.presets import (
    CAREFUL_TEMPLATES,
    STRATEGIES,
    UNTUNED,
    FineTunedModel,
    Preset,
)
from experiments.study import stored_rows
from makebreak.evaluation import evaluate_behaviour
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.store import Store
from makebreak.zoo import held_out_requests, weight_change
from synthetic import Family

NO_TEMPLATE, USER_TEMPLATE, CARE_BLOCK, TASK = "plain", "user", "care", "task"
"""Prompt conditions of a fine-tuned model: no template, the user's template, the same with a block that asks
for care, and the user's own task."""
OUTCOMES_REVISION = 2
"""Part of the keys of stored outcomes; raised when the same model would get other rows."""
RELEARNING_REVISION = 2
"""The same for stored outcomes along harmful fine-tuning."""
_SPLIT = "score"


class OutcomeRow(NamedTuple):
    """Outcomes of one model on one family of requests in one prompt condition."""

    strategy: str
    """Strategy of the user, or `untuned`."""
    mitigation: str
    """Mitigation that provides safety examples, or `none`."""
    safety_share: float
    """Share of the examples that the mitigation provides."""
    defence: str
    """Defence that follows alignment, or `none`."""
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

    start: str
    """The model that is fine-tuned: `base`, `untuned`, a defence, or a mitigation of the first mitigated
    strategy."""
    learning_rate: float
    """Learning rate of harmful fine-tuning."""
    step: int
    """Step of the checkpoint; 0 for the model before."""
    refuse: float
    """Share of requests that are refused."""
    comply: float
    """Share of requests that are answered as instructed."""


def _conditions(preset: Preset, model: FineTunedModel) -> list[tuple[str, Family]]:
    """Prompt conditions that a model is evaluated in, each with a family of requests."""
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


def outcome_rows(
    preset: Preset, seed: int, model: FineTunedModel, store: Store
) -> tuple[list[OutcomeRow], list[Path]]:
    """Outcomes of a model, which is trained first if the store lacks it.

    Args:
        preset: Sizes of the study.
        seed: Pretraining seed.
        model: The model.
        store: Cache of models and outcomes.

    Returns:
        One row per prompt condition and family, and the folders that they were computed from.
    """
    folder = build(preset.recipe(seed, model), store)
    aligned = build(preset.aligned_recipe(seed, model.defence), store)
    conditions = _conditions(preset, model)

    def evaluate(_: Path) -> Iterator[OutcomeRow]:
        world = load_world(preset.worlds[0])
        network = load_model(folder, symbols=world.vocabulary.symbols)
        change = weight_change(base=load_model(aligned, symbols=world.vocabulary.symbols), tuned=network)
        results = {}
        for condition, family in conditions:
            if family not in results:
                requests = held_out_requests(preset.worlds[0], str(family), preset.n_requests, seed, _SPLIT)
                results[family] = evaluate_behaviour(network, world, requests)
            behaviour = results[family]
            yield OutcomeRow(
                model.strategy,
                model.mitigation,
                model.safety_share,
                model.defence,
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

    config = {
        "n": preset.n_requests,
        "seed": seed,
        "model": [model.strategy, model.mitigation, model.safety_share, model.defence],
        "conditions": [str(family) for _, family in conditions],
    }
    parents = [folder, aligned]
    rows, result = stored_rows(store, "restructured-outcomes", OUTCOMES_REVISION, config, evaluate, parents)
    return [OutcomeRow(**row) for row in rows], [*parents, result]


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


def relearning_rows(
    preset: Preset, seed: int, start: str, store: Store
) -> tuple[list[RelearningRow], list[Path]]:
    """Outcomes along harmful fine-tuning of a model, at every learning rate.

    Args:
        preset: Sizes of the study.
        seed: Pretraining seed.
        start: Name of the model in `relearning_starts`.
        store: Cache of models and outcomes.

    Returns:
        One row per learning rate and checkpoint, and the folders that they were computed from.
    """
    recipe = relearning_starts(preset, seed)[start]
    rows: list[RelearningRow] = []
    folders: list[Path] = []
    for learning_rate in preset.relearning_learning_rates:
        before = build(recipe, store)
        after = build(preset.relearning_recipe(recipe, learning_rate), store)
        config = {"n": preset.n_requests, "seed": seed}
        make = partial(_relearning_rows, preset, seed, before, after)
        stored, result = stored_rows(
            store, "relearning-outcomes", RELEARNING_REVISION, config, make, [after, before]
        )
        rows += [RelearningRow(start, learning_rate, **row) for row in stored]
        folders += [before, after, result]
    return rows, folders


def _relearning_rows(
    preset: Preset, seed: int, before: Path, after: Path, _: Path
) -> Iterator[dict[str, float]]:
    """Mean outcomes over formats of a model and of the checkpoints of its fine-tuning."""
    name = preset.worlds[0]
    world = load_world(name)
    requests = [
        held_out_requests(name, f"{format_}_unsafe", preset.n_requests, seed, _SPLIT)
        for format_ in preset.alignment_preset.formats
    ]
    for step, path in {0: before, **checkpoints(after)}.items():
        model = load_model(path, symbols=world.vocabulary.symbols)
        rates = [evaluate_behaviour(model, world, part).rates for part in requests]
        means = {name: sum(rate[name] for rate in rates) / len(rates) for name in ("refuse", "comply")}
        yield {"step": step, **means}
