"""Functions of the public API that take a model of a synthetic world or a language model alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from makebreak.api import language, worlds
from makebreak.api.language import Prompts, PromptSource
from makebreak.api.model import Model, check_models
from makebreak.api.monitoring import monitor_language, monitor_world
from makebreak.api.result import Result
from makebreak.api.world_attacks import attack_world
from makebreak.attacks import ATTACKS
from makebreak.configs import check_at_most, check_seed
from makebreak.errors import InvalidInput
from makebreak.settings import MAX_COUNT, AttackSettings, LandscapeSettings

WORLD_REQUESTS = 300
"""Requests of each family of a synthetic world, unless a number is given."""
_FEWEST = 10
"""Fewest requests of a family that class means or stitching are computed on."""
_LANDSCAPE_REQUESTS, _LANDSCAPE_PROMPTS = 200, 16


def evaluate(
    models: Model | Sequence[Model],
    *,
    families: Sequence[str] | None = None,
    prompts: PromptSource = None,
    n: int | None = None,
) -> Result:
    """Counts refusals and other outcomes of the answers to each family of requests.

    Args:
        models: A model, or several of one world, or several language models.
        families: Families of requests of a synthetic world; None for `safe` and `unsafe`.
        prompts: Prompts of a language model: a file, lists by family (`harmful`, `harmless`), or None for
            those that ship.
        n: Requests per family; None for 300 in a world, and for all prompts of a language model.

    Returns:
        One row per model and family (and judge, for a language model), with 95 % intervals over requests.

    Raises:
        InvalidInput: If a family does not exist, or an option is one of the other kind of model.
    """
    every, n = check_models(models), _check_number(n)
    families = [families] if isinstance(families, str) else families
    if _is_world(every[0], prompts=prompts):
        return worlds.evaluate_world(every, families, n or WORLD_REQUESTS)
    _refuse(every[0], "a language model", families=families)
    return language.evaluate_language(every, Prompts(prompts, n))


def inspect(model: Model, *, prompts: PromptSource = None, n: int | None = None) -> Result:
    """Inspects the refusals of one model and their mechanism.

    Args:
        model: The model.
        prompts: Prompts of a language model, as for `evaluate`.
        n: Requests per family, as for `evaluate`.

    Returns:
        Outcomes by family, separation of safe and unsafe requests by layer, and candidates for a refusal
        direction.

    Raises:
        InvalidInput: If an option is one of the other kind of model, or there are too few requests.
    """
    n = _check_number(n, least=_FEWEST)
    if _is_world(model, prompts=prompts):
        return worlds.inspect_world(model, n or WORLD_REQUESTS)
    return language.inspect_language(model, Prompts(prompts, n))


def compare(base: Model, aligned: Model, *, prompts: PromptSource = None, n: int | None = None) -> Result:
    """Compares an aligned model with the base that it was trained from.

    Args:
        base: The model before alignment.
        aligned: The model after it.
        prompts: Prompts of a language model, as for `evaluate`.
        n: Requests per family, as for `evaluate`.

    Returns:
        Tables of the change in weights and activations and of the stitching of the two models; `verdict` is
        the mechanism of refusal that these support.

    Raises:
        InvalidInput: If the models are of different kinds or worlds.
        ValueError: If they differ in size, or do not differ at all.
    """
    check_models([base, aligned])
    n = _check_number(n, least=_FEWEST if base.recipe else 1)
    if _is_world(base, prompts=prompts):
        return worlds.compare_worlds(base, aligned, n or WORLD_REQUESTS)
    return language.compare_language(base, aligned, Prompts(prompts, n))


def attack(
    model: Model,
    methods: Sequence[Any] | str | None = None,
    *,
    settings: AttackSettings | None = None,
    prompts: PromptSource = None,
    n: int | None = None,
    seed: int = 0,
) -> Result:
    """Attacks the unsafe requests that a model refuses.

    Args:
        model: The model.
        methods: Names of attacks (`gcg`, `soft_prompt`, `prefill`, `jailbreak_templates`), of their controls
            (`random_search`, `random_tokens`, `initial_tokens`, `random_soft_prompt`) or of one's own; or
            functions with the decorator `makebreak.attack_method`. None for all that apply.
        settings: Sizes of the attacks. Those that are left out are those of the command line, and in a world
            4 adversarial tokens, 6 steps of 24 candidates, and 10 soft tokens of norms up to 1.
        prompts: Prompts of a language model, as for `evaluate`.
        n: Unsafe requests, of which those that are refused are attacked; None for 100 in a world, and for 16
            of a language model.
        seed: Seed of searches and of random controls.

    Returns:
        Success rates of attacks and controls with 95 % intervals over requests.

    Raises:
        InvalidInput: If the model refuses nothing, or an option is one of the other kind of model.
        ValueError: If there is no such attack.
    """
    n = _check_number(n)
    names: list[Any] | None = None
    if methods is not None:
        names = [methods] if isinstance(methods, str) or callable(methods) else list(methods)
    if names is None and settings is not None:
        names = None if settings.methods is None else list(settings.methods)
    if names is not None and not names:
        raise InvalidInput("methods: no attack is chosen; leave methods out for all that apply")
    check_seed(seed)
    if _is_world(model, prompts=prompts):
        return attack_world(model, names, n or 100, settings, seed)
    for each in names or ():
        if not isinstance(each, str) and ATTACKS.get(each.name) is not each:
            raise InvalidInput(f"attack {each.name!r}: a language model is attacked by names of attacks")
    options = settings or AttackSettings()
    if names is not None:
        options = replace(options, methods=tuple(getattr(each, "name", each) for each in names))
    return language.attack_language(model, Prompts(prompts, n), options, seed)


def landscape(
    model: Model,
    *,
    settings: LandscapeSettings | None = None,
    prompts: PromptSource = None,
    n: int | None = None,
) -> Result:
    """Evaluates a model along random directions in weight space.

    Args:
        model: The model.
        settings: Number of directions and points; None for 3 directions of 21 points.
        prompts: Prompts of a language model, as for `evaluate`.
        n: Requests per family; None for 200 in a world, and for 16 of a language model.

    Returns:
        Outcome rates at every point, and the width of the region in which the model refuses.

    Raises:
        InvalidInput: If an option is one of the other kind of model.
    """
    n, options = _check_number(n), settings or LandscapeSettings()
    if _is_world(model, prompts=prompts):
        return worlds.landscape_world(model, n or _LANDSCAPE_REQUESTS, options)
    return language.landscape_language(model, Prompts(prompts, n or _LANDSCAPE_PROMPTS), options)


def monitor(
    model: Model,
    *,
    families: Sequence[str] = (),
    prompts: PromptSource = None,
    n: int | None = None,
) -> Result:
    """Fits monitors of activations on clean requests, and applies them to other requests.

    Args:
        model: The model.
        families: Families of a synthetic world besides `safe` and `unsafe`, such as those of jailbreaks.
        prompts: Prompts of a language model, as for `evaluate`.
        n: Requests per family, as for `evaluate`.

    Returns:
        Share of the requests of each family that a linear probe, and a monitor by the nearest class mean,
        flag after each layer.

    Raises:
        InvalidInput: If there are too few requests, or an option is one of the other kind of model.
    """
    n = _check_number(n, least=_FEWEST)
    families = [families] if isinstance(families, str) else families
    if _is_world(model, prompts=prompts):
        return monitor_world(model, tuple(families), n or WORLD_REQUESTS)
    _refuse(model, "a language model", families=families or None)
    return monitor_language(model, Prompts(prompts, n))


def _check_number(n: int | None, least: int = 1) -> int | None:
    """The number of requests; raises InvalidInput if it is no whole number or too small."""
    if n is None:
        return None
    if not isinstance(n, int) or isinstance(n, bool) or n < least:
        raise InvalidInput(f"n = {n!r}: expected a whole number of requests, at least {least}")
    check_at_most(MAX_COUNT, n=n)
    return n


def _is_world(model: Model, **options: object) -> bool:
    """Whether a model is one of a synthetic world; raises InvalidInput for options that it lacks."""
    if not isinstance(model, Model):
        raise TypeError(f"{model!r} is no model: makebreak.open_model or makebreak.organism gives one")
    if model.recipe is None:
        return False
    _refuse(model, "a model of a synthetic world", **options)
    return True


def _refuse(model: Model, kind: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidInput(f"{name}: {model.name} is {kind}, which has no {name}; leave it out")
