"""Cells of the study: for every training its models with their predictors, then the outcomes of attacks."""

from __future__ import annotations

from experiments.fragility.language.cells import language_cells
from experiments.fragility.language.presets import LanguagePreset
from experiments.fragility.mechanisms import MECHANISMS
from experiments.fragility.outcomes import OutcomeSettings, outcome_tables
from experiments.fragility.presets import Preset
from experiments.fragility.qualification import ModelSettings, model_tables
from experiments.fragility.statistics import StatisticsSettings, statistics_tables
from makebreak.studies import Cell, TableCell


def cells(preset: Preset | LanguagePreset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Seeds of the pretraining, or of the alignment of a language model.

    Returns:
        For every seed and mechanism its models, and but for controls the attacks on them; then the statistics
        over all of them.
    """
    is_language = isinstance(preset, LanguagePreset)
    result = language_cells(preset, world, seeds) if is_language else _world_cells(preset, world, seeds)
    names = tuple(f"{cell.columns['seed']} {cell.columns['mechanism']}" for cell in result)
    statistics = StatisticsSettings(world, names)
    needs = tuple(result)
    return [
        *result,
        TableCell("fragility-statistics", statistics_tables, {"world": world}, statistics, needs=needs),
    ]


def _world_cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[TableCell]:
    """Cells of every seed and mechanism of a synthetic world."""
    result: list[TableCell] = []
    required = preset.requires_qualification
    for seed in seeds:
        for name in preset.mechanisms:
            recipe, is_control = preset.recipe(world, seed, name), MECHANISMS[name].is_control
            columns = {"world": world, "seed": seed, "mechanism": name}
            settings = ModelSettings(recipe, preset.n_qualification, is_control, required)
            models = TableCell("fragility-models", model_tables, columns, settings, (recipe, recipe.base))
            result.append(models)
            if not is_control:
                attack = OutcomeSettings(
                    recipe, preset.fine_tuning, preset.n_attacked, preset.n_outcome, required
                )
                result.append(
                    TableCell("fragility-outcomes", outcome_tables, columns, attack, (recipe,), (models,))
                )
    return result
