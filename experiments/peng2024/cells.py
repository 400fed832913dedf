"""Cells of the study: fine-tuning attacks, the landscape of every model, and variants."""

from __future__ import annotations

from itertools import product

from experiments.peng2024.fine_tuning import RequestSettings, fine_tuning_tables
from experiments.peng2024.landscapes import LandscapeSettings, landscape_tables
from experiments.peng2024.presets import (
    ATTACKS,
    HARMFUL,
    RATES,
    UNEXPOSED_BASE,
    WITH_REFUSALS,
    Preset,
    attacks_on,
)
from experiments.peng2024.variants import VariantSettings, variant_tables
from makebreak.studies import Cell, TableCell


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        For every seed and model its attacks and its landscape, then the variants.
    """
    result: list[Cell] = []
    for seed in seeds:
        for arm in preset.attacked_arms:
            attacks = {
                (attack, rate): _attack_cell(preset, world, seed, arm, (attack, rate))
                for attack, rate in product(attacks_on(arm), RATES)
            }
            result += attacks.values()
            if arm != UNEXPOSED_BASE:
                result.append(_landscape_cell(preset, world, seed, arm, attacks))
        result += [_variant_cell(preset, world, seed, name) for name in preset.variants]
    return result


def _attack_cell(preset: Preset, world: str, seed: int, arm: str, attack: tuple[str, float]) -> TableCell:
    columns = {"seed": seed, "arm": arm, "kind": attack[0], "rate": attack[1]}
    recipes = preset.recipe(world, seed, arm), preset.attack_recipe(world, seed, arm, *attack)
    settings = RequestSettings(world, seed, preset.n)
    return TableCell("finetuned-outcomes", fine_tuning_tables, columns, settings, recipes)


def _landscape_cell(
    preset: Preset, world: str, seed: int, arm: str, attacks: dict[tuple[str, float], TableCell]
) -> TableCell:
    """Cell of one model, whose directions lead to the models of two attacks at their best rates."""
    names = tuple(name for name in (HARMFUL, WITH_REFUSALS) if name in attacks_on(arm))
    is_mapped = arm in preset.mapped_arms and seed == preset.seeds[0]
    settings = LandscapeSettings(
        world,
        seed,
        preset.n,
        n_directions=preset.directions,
        n_points=preset.points,
        attacks=names,
        rates=RATES,
        all_directions=attacks_on(arm) == tuple(ATTACKS),
        n_map_points=preset.map_points if is_mapped else None,
        attack_plane=arm == preset.mapped_arms[0],
    )
    recipe, needed = preset.recipe(world, seed, arm), list(product(names, RATES))
    attacked = [preset.attack_recipe(world, seed, arm, *pair) for pair in needed]
    recipes, needs = (recipe, recipe.base, *attacked), tuple(attacks[pair] for pair in needed)
    return TableCell("landscape", landscape_tables, {"seed": seed, "arm": arm}, settings, recipes, needs)


def _variant_cell(preset: Preset, world: str, seed: int, name: str) -> TableCell:
    recipe = preset.variant_recipe(world, seed, name)
    settings = VariantSettings(
        recipe.world,
        seed,
        preset.n,
        d_model=recipe.model.d_model,
        has_system_span=preset.variants[name].system_in_alignment is not None,
        n_directions=preset.directions,
        n_points=preset.points,
    )
    columns = {"seed": seed, "arm": name}
    return TableCell("landscape-variant", variant_tables, columns, settings, (recipe,))
