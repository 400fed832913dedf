"""Registry of the attacks that `makebreak attack --method` accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from makebreak.attacks.gcg import GCG
from makebreak.attacks.jailbreak_templates import JailbreakTemplate
from makebreak.attacks.prefill import Prefill
from makebreak.attacks.random_search import RandomSearch
from makebreak.attacks.random_tokens import InitialTokens, RandomTokens
from makebreak.attacks.result import Attack
from makebreak.attacks.soft_prompt import RandomSoftPrompt, SoftPrompt
from makebreak.attacks.universal import OptimisedAttack, Universal
from makebreak.plugins import load_plugin
from makebreak.settings import AttackSettings

ATTACKS: Mapping[str, Any] = {
    "jailbreak_templates": JailbreakTemplate,
    "initial_tokens": InitialTokens,
    "gcg": GCG,
    "random_search": RandomSearch,
    "random_tokens": RandomTokens,
    "soft_prompt": SoftPrompt,
    "random_soft_prompt": RandomSoftPrompt,
    "prefill": Prefill,
}
"""Classes of the attacks and of their controls, by name."""


def load_attacks(name: str, settings: AttackSettings) -> list[Attack]:
    """The attacks of a method.

    Args:
        name: A name in `ATTACKS`, the name of an entry point of the group `makebreak.attacks`, or
            MODULE:CLASS.
        settings: Sizes of the attacks, for classes with a method `from_settings`; others are created without
            arguments. A size that is None is that of a language model.

    Returns:
        One attack, or several of different sizes; with `settings.universal`, attacks that can be optimised
        for all requests are.

    Raises:
        ValueError: If there is none of this name, or it is no attack.
    """
    definition = load_plugin("attack", name, ATTACKS)
    attacks: list[Any] = [definition]
    if isinstance(definition, type):
        create = getattr(definition, "from_settings", None)
        try:
            attacks = [definition()] if create is None else list(create(settings.complete()))
        except TypeError as error:
            raise ValueError(f"attack {name!r} cannot be created from its settings: {error}") from error
    if not all(callable(each) and isinstance(getattr(each, "name", None), str) for each in attacks):
        raise ValueError(
            f"attack {name!r}: expected a class with a name, whose objects are called with a target, "
            "requests and a seed"
        )
    if not settings.universal:
        return attacks
    return [Universal(each, each.name) if isinstance(each, OptimisedAttack) else each for each in attacks]
