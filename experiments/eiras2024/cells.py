"""Cells of the study: outcomes of every fine-tuned model, and harmful fine-tuning of some."""

from __future__ import annotations

from itertools import product

from experiments.eiras2024.measures import (
    OutcomeSettings,
    conditions,
    outcome_tables,
    relearning_starts,
    relearning_tables,
)
from experiments.eiras2024.presets import FineTunedModel, Preset
from makebreak.studies import Cell, TableCell


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        For every seed its models, then harmful fine-tuning.
    """
    result: list[Cell] = []
    for seed in seeds:
        result += [_outcome_cell(preset, world, seed, model) for model in preset.fine_tuned_models()]
        starts = relearning_starts(preset, seed)
        rates = preset.relearning_learning_rates
        result += [_relearning_cell(preset, world, seed, *pair) for pair in product(starts, rates)]
    return result


def _outcome_cell(preset: Preset, world: str, seed: int, model: FineTunedModel) -> TableCell:
    columns = {"seed": seed, "strategy": model.strategy, "mitigation": model.mitigation}
    columns |= {"safety_share": model.safety_share, "defence": model.defence}
    named = tuple((condition, str(family)) for condition, family in conditions(preset, model))
    settings = OutcomeSettings(world, seed, preset.n_requests, named)
    recipes = preset.recipe(seed, model), preset.aligned_recipe(seed, model.defence)
    return TableCell("restructured-outcomes", outcome_tables, columns, settings, recipes)


def _relearning_cell(preset: Preset, world: str, seed: int, start: str, rate: float) -> TableCell:
    columns = {"seed": seed, "start": start, "learning_rate": rate}
    formats = list(preset.alignment_preset.formats)
    settings = {"world": world, "seed": seed, "n": preset.n_requests, "formats": formats}
    before = relearning_starts(preset, seed)[start]
    recipes = before, preset.relearning_recipe(before, rate)
    return TableCell("relearning-outcomes", relearning_tables, columns, settings, recipes)
