"""Cells of the study: every model with all its measures, attacks in other worlds, and checks of the world."""

from __future__ import annotations

from experiments.jain2024.measures import attack_measures, checkpoint_measures, final_measures
from experiments.jain2024.worlds import DETECTABILITY_FACTOR, detectability_tables
from experiments.recipes.composition import Preset
from makebreak.prompts import load_world
from makebreak.studies import Cell, MeasureCell, TableCell


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        For every seed the study's world first, then the others in which models are attacked; at the end the
        detectability of unsafe requests in the study's world.
    """
    result: list[Cell] = []
    for seed in seeds:
        result += [model_cell(preset, world, seed, arm) for arm in preset.arms]
        for other, arms in preset.other_worlds(world).items():
            for arm in arms:
                columns = {"seed": seed, "arm": arm}
                result.append(MeasureCell(columns, preset.recipe(other, seed, arm), attack_measures(preset)))
    settings = {"world_is": load_world(world).fingerprint, "n": DETECTABILITY_FACTOR * preset.n_requests}
    settings |= {"world": world}
    return [*result, TableCell("detectability", detectability_tables, {"world": world}, settings)]


def model_cell(preset: Preset, world: str, seed: int, arm: str) -> MeasureCell:
    """All measures of a model and of its kept steps.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seed: Pretraining seed.
        arm: Arm of the model.

    Returns:
        The cell.
    """
    return MeasureCell(
        {"seed": seed, "arm": arm},
        preset.recipe(world, seed, arm),
        final_measures(preset, arm),
        checkpoint_measures(preset, arm),
        checkpoint_measures(preset, arm, early=True),
    )
