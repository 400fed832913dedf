"""Building of recipes: what a store lacks is trained, parents first, one by one or many in one step."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from makebreak.configs import from_json, to_json
from makebreak.models import MODEL_FILES, create_model, load_model
from makebreak.prompts import load_world
from makebreak.recipes.config import Recipe
from makebreak.seeds import stage_seed
from makebreak.store import (
    Store,
    check_copy,
    lock,
    open_unfinished,
    read_state,
    record,
    report_damage,
    result_key,
    write_state,
)
from makebreak.training import (
    CHECKPOINT,
    CHECKPOINTS,
    METRICS,
    Member,
    Objective,
    Optimisation,
    StackOptions,
    TrainingRun,
    TrainingStopped,
    default_workers,
    largest_stack,
    remove_stack,
    run_files,
    train,
    train_stack,
)

REVISION = 2
"""Revision of training, part of every model's key: raised when the same recipe would give other weights."""
STACKS = "stacks"
"""Folder of a store that holds the state of stacks in training."""
_RECIPES = "recipes.json"
_KEPT = re.compile(rf"{CHECKPOINTS}/([0-9]{{6,}})/")
_STACK_FILES = "|".join(
    [*map(re.escape, (_RECIPES, CHECKPOINT, METRICS)), rf"{CHECKPOINTS}/[0-9]{{6}}\.safetensors"]
)


def build(recipe: Recipe, store: Store) -> Path:
    """Folder of a recipe's model; the model and its parents are trained now unless the store has them.

    Args:
        recipe: The model.
        store: Where models are kept.

    Returns:
        A Hugging Face model folder within the store.

    Raises:
        TrainingStopped: If a loss is not finite.
        DamagedArtifact: If a stored model fails its hashes.
    """
    if recipe.engine.name == "stacked" and not store.read_only and not _folder(recipe, store).exists():
        build_all([recipe], store)

    def train_alone(folder: Path) -> None:
        model, member = _start(recipe, store)
        world = load_world(recipe.world)
        train(model, member.objective, member.optimisation, world, folder, member.run)

    return _store(recipe, store, train_alone)


def install(recipe: Recipe, store: Store, folder: Path) -> Path:
    """Puts a model that was trained elsewhere into a store, as the result of its recipe.

    Args:
        recipe: How the model was trained.
        store: Where it is kept from now on.
        folder: Folder of the model, a result of a store or a copy of one.

    Returns:
        Its folder in the store, which is left as it is if the store has the model.

    Raises:
        DamagedArtifact: If the files of the folder are not what its record says.
    """
    check_copy(folder)
    stage, config = _identity(recipe)

    def copy(target: Path) -> None:
        for name in record(folder)["files"]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)

    parents = _parents(recipe, store)
    return store.build(stage, revision=REVISION, config=config, parents=parents, make=copy)


def copy_lineage(recipe: Recipe, source: Store, target: Store) -> None:
    """Copies a model, and those that it was trained from, from one store into another."""
    for stage in recipe.lineage:
        folder = _folder(stage, source)
        if folder.exists():
            install(stage, target, folder)


def build_all(recipes: Iterable[Recipe], store: Store) -> None:
    """Trains what a store lacks of some recipes and of their parents; stacks of many models where they fit.

    Recipes of the engine `single` are trained one after the other. Those of the engine `stacked` are trained
    together where architecture, world, kind of objective and settings of the optimiser allow it; a stack that
    was interrupted is finished first.

    Args:
        recipes: The models.
        store: Where models are kept.

    Raises:
        TrainingStopped: If the losses of some models are not finite; all others are in the store.
        DamagedArtifact: If a stored model fails its hashes.
    """
    lineages = list(dict.fromkeys(stage for recipe in recipes for stage in recipe.lineage))
    failures: dict[Recipe, TrainingStopped] = {}
    for depth in range(1 + max((len(recipe.alignments) for recipe in lineages), default=0)):
        wave = [recipe for recipe in lineages if len(recipe.alignments) == depth]
        for recipe in wave:  # what begins at a model that stopped cannot be trained
            if recipe.alignments and recipe.parent in failures:
                failures[recipe] = failures[recipe.parent]
        wave = [recipe for recipe in wave if recipe not in failures]
        for recipe in wave:
            if recipe.engine.name == "single":
                try:
                    build(recipe, store)
                except TrainingStopped as error:
                    failures[recipe] = error
        stacked = [recipe for recipe in wave if recipe.engine.name == "stacked"]
        for find_groups in (_interrupted, _groups):
            for group in find_groups(stacked, store):
                failures |= _build_stack(group, store)
    if failures:
        first = next(iter(failures.values()))
        raise TrainingStopped(
            f"{len(failures)} of {len(lineages)} models could not be trained; the first error: {first}"
        )


def _identity(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """Stage and config of a recipe's result in a store."""
    world = load_world(recipe.world)
    config = to_json(recipe) | {"world_is": world.fingerprint} | recipe.source_digests()
    return ("alignment" if recipe.alignments else "pretraining"), config


def _parents(recipe: Recipe, store: Store) -> list[Path]:
    return [_folder(recipe.parent, store)] if recipe.alignments else []


def _folder(recipe: Recipe, store: Store) -> Path:
    """Where a recipe's model is, or will be."""
    stage, config = _identity(recipe)
    return store.root / stage / result_key(stage, REVISION, config, _parents(recipe, store))


def _store(recipe: Recipe, store: Store, make: Callable[[Path], None]) -> Path:
    """The folder of a recipe's model, which is made unless the store has it."""
    stage, config = _identity(recipe)
    parents = _parents(recipe, store)
    if parents and not _folder(recipe, store).exists():
        build(recipe.parent, store)
    files = run_files(_last_stage(recipe)[1].checkpoint_steps, MODEL_FILES)
    return store.build(stage, revision=REVISION, config=config, parents=parents, make=make, files=files)


def _start(recipe: Recipe, store: Store) -> tuple[PreTrainedModel, Member]:
    """The model that the last stage of a recipe starts from, and the run of that stage."""
    world = load_world(recipe.world)
    if not recipe.alignments:
        d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
        model = create_model(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=recipe.seed)
        return model, Member(recipe.pretraining, recipe.optimisation, _run(recipe, recipe.seed))
    stage = recipe.alignments[-1]
    model = load_model(build(recipe.parent, store), symbols=world.vocabulary.symbols)
    seed = stage_seed(recipe.seed, len(recipe.alignments))  # every stage sees other requests
    if stage.lora:
        stage.lora.attach(model, seed=seed)
    if stage.constraint:
        stage.constraint.attach(model, seed=seed)
    return model, Member(stage.objective, stage.optimisation, _run(recipe, seed))


def _run(recipe: Recipe, seed: int) -> TrainingRun:
    """Seed, name and device of a training, and the processes that make its batches."""
    device = torch.device(recipe.engine.device)
    return TrainingRun(seed, recipe.label(), device=device, n_workers=default_workers(device))


def _groups(recipes: Collection[Recipe], store: Store) -> list[list[Recipe]]:
    """Recipes that the store lacks, in groups that can be trained in one step."""
    groups: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        if not _folder(recipe, store).exists():
            groups.setdefault(_shared(recipe), []).append(recipe)
    stacks = []
    for group in groups.values():
        group.sort(key=lambda recipe: recipe.seed)  # requests of one seed are sampled once
        world, optimisation = load_world(group[0].world), _last_stage(group[0])[1]
        size = largest_stack(group[0].model, world, optimisation, group[0].engine.device)
        n_stacks = -(-len(group) // size)
        size = -(-len(group) // n_stacks)  # of equal size, so that a step is compiled once
        stacks += [group[i : i + size] for i in range(0, len(group), size)]
    return stacks


def _last_stage(recipe: Recipe) -> tuple[Objective, Optimisation]:
    stage = recipe.alignments[-1] if recipe.alignments else None
    return (stage.objective, stage.optimisation) if stage else (recipe.pretraining, recipe.optimisation)


def _shared(recipe: Recipe) -> str:
    """All that the recipes of a stack have in common."""
    objective, optimisation = _last_stage(recipe)
    optimisation = replace(optimisation, learning_rate=1.0, weight_decay=0.0, clip=1.0)
    part = (recipe.alignments[-1].lora, recipe.alignments[-1].constraint) if recipe.alignments else None
    safe_share = objective.alignment_data.safe_share if objective.alignment_data else None
    # a loss that names no settings of members was perhaps not written for stacks: such a run is a stack alone
    is_alone = type(objective).loss is not Objective.loss and not objective.member_settings
    shared = (type(objective), objective.shared_settings(), safe_share, optimisation, part)
    return repr((recipe.world, recipe.model, recipe.engine, shared, recipe if is_alone else None))


def _interrupted(recipes: Collection[Recipe], store: Store) -> list[list[Recipe]]:
    """Stacks with a state in the store: a recipe is missing, or the state was not yet removed."""
    stacks = []
    for path in sorted((store.root / STACKS).glob(f"*/{_RECIPES}")):
        try:
            configs = read_state(path)
        except ValueError:
            report_damage(path, "this state is not resumed from")
            continue
        try:
            group = [from_json(Recipe, config) for config in configs]
        except (ValueError, TypeError, AttributeError):
            continue  # of a version that has no such recipe
        if path.parent != _stack_folder(group, store):
            continue  # likewise
        if any(recipe in recipes for recipe in group):
            stacks.append(group)
    return stacks


def _stack_folder(group: list[Recipe], store: Store) -> Path:
    """Folder of the state of a stack."""
    keys = [_folder(recipe, store).name for recipe in group]
    return store.root / STACKS / result_key(STACKS, REVISION, {"members": keys})


def _build_stack(group: list[Recipe], store: Store) -> dict[Recipe, TrainingStopped]:
    """Trains a stack and stores its members; the errors of those whose loss was not finite."""
    folder = _stack_folder(group, store)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        missing = [i for i, recipe in enumerate(group) if not _folder(recipe, store).exists()]
        if missing or folder.exists():
            open_unfinished(folder, _STACK_FILES)
        if not missing:  # another process was faster, or was killed before it removed the state
            _remove_state(folder)
            return {}
        write_state(folder / _RECIPES, [to_json(recipe) for recipe in group])
        starts = [_start(recipe, store) for recipe in group]
        models, members = [model for model, _ in starts], [member for _, member in starts]
        options = StackOptions(device=group[0].engine.device)
        stack = train_stack(models, members, load_world(group[0].world), folder, options)
        for i in missing:
            if i not in stack.failures:
                _store(group[i], store, lambda path, i=i: stack.write(i, path))
        _remove_state(folder)
    return {group[i]: error for i, error in stack.failures.items()}


def _remove_state(folder: Path) -> None:
    """Removes the state of a stack whose members are stored; its recipes last, by which it is recognised."""
    remove_stack(folder)
    (folder / _RECIPES).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def checkpoints(folder: Path) -> dict[int, Path]:
    """Model folders of a training run by step: its checkpoints and, for the last step, its own folder."""
    *earlier, last = kept_steps(record(folder))
    return {step: folder / CHECKPOINTS / f"{step:06d}" for step in earlier} | {last: folder}


def kept_steps(result: Mapping[str, Any]) -> list[int]:
    """Steps of a training run of which the store has the model.

    Args:
        result: Record of the run.

    Returns:
        The steps of the checkpoints that are on record, and the last step.
    """
    config = result["config"]
    stages = config.get("alignments")  # a language model has no recipe, and one stage
    last = (stages[-1]["optimisation"] if stages else config["optimisation"])["steps"]
    steps = {int(match[1]) for match in map(_KEPT.match, result["files"]) if match}
    return [*sorted(steps - {last}), last]
