"""Training of models: pretraining in a world, alignment, and a user's fine-tuning afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from makebreak import lm
from makebreak.api.language import language_model_of
from makebreak.api.model import Model, current_store, store_model, world_model
from makebreak.configs import check_at_most, check_not_negative, check_positive, check_seed, nearest
from makebreak.defences import MixedFineTuning
from makebreak.errors import InvalidInput
from makebreak.models import open_model as open_language_model
from makebreak.prompts import TextWorld, load_world
from makebreak.recipes import BASE_RECIPES, Alignment, Recipe, base_recipe
from makebreak.settings import MAX_COUNT, FineTuneSettings, GenerationSettings, UserDataSettings
from makebreak.training import (
    FineTuning,
    LoRA,
    Objective,
    Optimisation,
    check_rank,
    load_objective,
    objective_name,
)

_STEPS, _RATE, _BATCH = 300, 1e-3, 64  # of a world without a recipe
_HARMFUL = "harmful"
_EXAMPLES = 100


def pretrain(recipe: str | Recipe = "mini", *, seed: int = 0) -> Model:
    """Pretrains a base model in a synthetic world; the store keeps it.

    Args:
        recipe: Name of a recipe: `mini`, `hidden` or `formats_mini`, those of the studies in these worlds, or
            `formats_short` or `templates_short`, which take up to a minute and are less accurate; or a
            `makebreak.recipes.Recipe` without alignments, which has a seed of its own.
        seed: Pretraining seed. Seeds from 1000 on are for choosing settings, and never reported.

    Returns:
        The model. A run that was interrupted goes on where it stopped.

    Raises:
        ValueError: If there is no such recipe.
    """
    if isinstance(recipe, Recipe):
        if seed:
            raise InvalidInput(f"seed = {seed}: the recipe has the seed {recipe.seed}; leave seed out")
        if recipe.alignments:
            raise InvalidInput(f"recipe {recipe.label()} has alignments: makebreak.align adds them")
        return world_model(recipe)
    check_seed(seed)
    return world_model(base_recipe(recipe).recipe(seed), f"{recipe}-base seed {seed}")


def align(
    model: Model,
    objective: str | Objective = "ssft",
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    lora_rank: int = 0,
    seed: int = 0,
) -> Model:
    """Aligns a model: safety fine-tuning, DPO, unlearning, or an objective of one's own.

    A model of a synthetic world is trained on safe and unsafe requests of that world, a language model on
    harmful requests that ship, with refusals, and on harmless ones with its own answers.

    Args:
        model: The model to align; it is left as it is.
        objective: `ssft`, `dpo`, `dpo_nll`, `unlearning`, `npo`, `ascent`, `deep`, `latent` or `breaker`; a
            name that `makebreak.objective` registered, MODULE:CLASS, or an objective with its settings.
        steps: Training steps; None for those of the world's recipe, or 160 of a language model.
        learning_rate: Peak learning rate; None for that of the world's recipe, or 1e-4 of a language model.
            The recipes have tuned rates of `ssft`, `dpo`, `unlearning` and `ascent`, which hold for these
            objectives with other settings, too; all others get the recipe's default, which is not tuned.
        lora_rank: Rank of low-rank adapters, merged into the weights; 0 trains all weights.
        seed: Seed of the order of examples of a language model; in a world the pretraining seed decides.

    Returns:
        The aligned model, from the store if it was trained before.

    Raises:
        ValueError: If there is no such objective, or a setting is out of its range.
    """
    _check_training(steps, learning_rate, lora_rank)
    check_seed(seed)
    loss = load_objective(objective) if isinstance(objective, str) else objective
    name = objective if isinstance(objective, str) else loss.describe()
    label = _with_settings(name, steps=steps, learning_rate=learning_rate, lora_rank=lora_rank, seed=seed)
    if model.recipe is not None:
        if seed:
            raise InvalidInput(f"seed = {seed}: in a world the pretraining seed decides; leave it out")
        optimisation = _optimisation(model.recipe, objective_name(loss), steps, learning_rate)
        return _next_stage(model, label, loss, optimisation, lora_rank)
    language_model = language_model_of(model)
    settings, training = GenerationSettings(), _settings(steps, learning_rate, lora_rank, seed)
    check_rank(language_model.model, training.lora_rank)
    examples = lm.build_training_set(language_model, current_store(), settings)
    return _after_training(model, f"{model.name} {label}", lm.fine_tune_run(training, name), (examples, loss))


def fine_tune(
    model: Model,
    data: str | Path | UserDataSettings = _HARMFUL,
    *,
    n: int | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    lora_rank: int = 0,
) -> Model:
    """Fine-tunes a model as a user would after its alignment, on harmful or on harmless examples.

    Args:
        model: The model to fine-tune; it is left as it is.
        data: `harmful` for unsafe requests with the instructed answers. In a world also a family of requests.
            For a language model also a task (`gen`, `map`, `sum`, `label`, `mcq`), a CSV or JSONL file with
            the columns prompt and answer, or settings with a provider's mitigation.
        n: Number of distinct examples; None for 100, or for that of the settings.
        steps: Training steps; None for those of the world's recipe, or 160 of a language model.
        learning_rate: Peak learning rate; None for that of the recipe, or 1e-4 of a language model.
        lora_rank: Rank of low-rank adapters, merged into the weights; 0 trains all weights.

    Returns:
        The fine-tuned model, from the store if it was trained before.

    Raises:
        ValueError: If there are no such data, or a setting is out of its range.
    """
    if n is not None:
        check_positive(n=n)
        check_at_most(MAX_COUNT, n=n)
    _check_training(steps, learning_rate, lora_rank)
    if isinstance(data, UserDataSettings) and n is not None:
        raise InvalidInput(f"n = {n}: the settings have the number of examples; leave n out")
    settings = data if isinstance(data, UserDataSettings) else _user_data(data, n or _EXAMPLES)
    given = {"examples": n, "steps": steps, "learning_rate": learning_rate, "lora_rank": lora_rank}
    label = _with_settings(f"tuned on {settings.description}", **given)
    if model.recipe is not None:
        objective = _world_objective(model, settings)
        optimisation = _optimisation(model.recipe, None, steps, learning_rate)
        return _next_stage(model, label, objective, optimisation, lora_rank)
    language_model = language_model_of(model)
    training = _settings(steps, learning_rate, lora_rank, 0)
    check_rank(language_model.model, training.lora_rank)
    examples = [] if settings.file is None else lm.load_examples(settings.file)
    user_data = lm.UserData(settings, examples)
    run = lm.fine_tune_run(training, f"fine-tuning on {settings.source}")
    trained_on = lm.user_training(language_model, user_data, current_store(), GenerationSettings())
    return _after_training(model, f"{model.name} {label}", run, trained_on)


def _check_training(steps: int | None, learning_rate: float | None, lora_rank: int) -> None:
    check_not_negative(lora_rank=lora_rank)
    given = {"steps": steps, "learning_rate": learning_rate}
    check_positive(**{name: value for name, value in given.items() if value is not None})


def _settings(steps: int | None, rate: float | None, lora_rank: int, seed: int) -> FineTuneSettings:
    """Hyperparameters of a language model."""
    given = {"steps": steps, "learning_rate": rate}
    return FineTuneSettings(
        lora_rank=lora_rank, seed=seed, **{name: value for name, value in given.items() if value is not None}
    )


def _with_settings(name: str, **settings: int | float | None) -> str:
    """A name with the settings that are not the defaults, since tables tell models apart by their names."""
    given = [f"{key.replace('_', ' ')} {value:g}" for key, value in settings.items() if value]
    return f"{name} ({', '.join(given)})" if given else name


def _optimisation(
    recipe: Recipe, objective: str | None, steps: int | None, rate: float | None
) -> Optimisation:
    """Optimiser settings of a stage after pretraining, by the recipe of the world."""
    if recipe.world in BASE_RECIPES:
        named = BASE_RECIPES[recipe.world]
        optimisation = named.alignment
        if objective is not None and objective in named.rates:
            optimisation = replace(optimisation, learning_rate=named.rates[objective])
    else:
        optimisation = Optimisation(_STEPS, _RATE, batch_size=_BATCH)
    if steps is not None:
        optimisation = replace(optimisation, steps=steps)
    return optimisation if rate is None else replace(optimisation, learning_rate=rate)


def _next_stage(
    model: Model, name: str, objective: Objective, optimisation: Optimisation, lora_rank: int
) -> Model:
    assert model.recipe is not None
    store_model(model)
    lora = LoRA(lora_rank, 2 * lora_rank) if lora_rank else None
    stage = Alignment(objective, optimisation, lora)
    recipe = replace(model.recipe, alignments=(*model.recipe.alignments, stage))
    return world_model(recipe, f"{model.name} {name}")


def _after_training(
    model: Model, name: str, run: lm.FineTuneRun, trained_on: tuple[TextWorld, Objective]
) -> Model:
    """The language model after a training run."""
    language_model, (examples, objective) = language_model_of(model), trained_on
    folder = lm.fine_tune(language_model, examples, objective, run, current_store())
    after = open_language_model(folder, store=current_store(), loading=language_model.loading)
    return Model(name, after.model, language_model=after)


def _user_data(data: str | Path, n: int) -> UserDataSettings:
    if isinstance(data, Path) or Path(data).suffix:
        return UserDataSettings(file=Path(data), n_examples=n)
    return UserDataSettings(task=data, n_examples=n)


def _world_objective(model: Model, settings: UserDataSettings) -> Objective:
    """Objective of a user's fine-tuning in a world."""
    assert model.recipe is not None
    if settings.file is not None:
        raise ValueError(f"{settings.file}: a model of a synthetic world is trained on a family of its world")
    if settings.task == _HARMFUL:
        if settings.mitigation != "none":
            raise InvalidInput(
                f"mitigation {settings.mitigation!r}: harmful examples are mixed with plain refusals, by "
                "safety_share alone"
            )
        n_refused = round(settings.safety_share * settings.n_examples)
        return FineTuning(settings.n_examples - n_refused, n_refused)
    families = load_world(model.recipe.world).families
    if settings.task not in families:
        raise ValueError(f"family {settings.task!r} does not exist; {nearest(settings.task, [*families])}")
    return MixedFineTuning(settings.task, settings.n_examples, settings.mitigation, settings.safety_share)
