"""Alignment objectives by name: those of makebreak, of installed packages, and a user's own."""

from __future__ import annotations

from collections.abc import Mapping

from makebreak.configs import to_json
from makebreak.plugins import load_plugin
from makebreak.training.booster import Booster
from makebreak.training.circuit_breaker import CircuitBreaker
from makebreak.training.deep_alignment import DeepAlignment
from makebreak.training.extended_refusal import ExtendedRefusal
from makebreak.training.latent_adversarial import LatentAdversarialTraining
from makebreak.training.objective import Objective
from makebreak.training.preferences import DPO, Unlearning
from makebreak.training.retain_forget import NPO, GradientAscent
from makebreak.training.ssft import SSFT

OBJECTIVES: Mapping[str, Objective] = {
    "ssft": SSFT(),
    "dpo": DPO(),
    "dpo_nll": DPO(nll=1.0),
    "unlearning": Unlearning(),
    "npo": NPO(),
    "ascent": GradientAscent(),
    "deep": DeepAlignment(),
    "latent": LatentAdversarialTraining(),
    "breaker": CircuitBreaker(),
    "extended": ExtendedRefusal(),
    "booster": Booster(),
}
"""Alignment objectives by the names that `makebreak align --objective` accepts."""


def load_objective(name: str) -> Objective:
    """An objective by name.

    Args:
        name: A name in `OBJECTIVES`, that of an entry point of the group `makebreak.objectives`, or
            MODULE:NAME of an `Objective` or of a subclass, which gets its default settings.

    Returns:
        The objective.

    Raises:
        ValueError: If there is none of this name, or it is no objective.
    """
    plugin = load_plugin("objective", name, OBJECTIVES)
    if isinstance(plugin, type) and issubclass(plugin, Objective):
        try:
            plugin = plugin()
        except TypeError as error:
            raise ValueError(f"objective {name!r}: {error}; name an instance with its settings") from None
    if not isinstance(plugin, Objective):
        raise ValueError(f"objective {name!r} is {plugin!r}: expected an Objective or a subclass of it")
    to_json(plugin)  # a setting that is no field is an error before anything is trained
    return plugin


def objective_name(objective: Objective) -> str | None:
    """The name in `OBJECTIVES` of an objective, or of its class with other settings; None for any other."""
    same_class = [name for name, each in OBJECTIVES.items() if type(each) is type(objective)]
    return next((name for name in same_class if OBJECTIVES[name] == objective), next(iter(same_class), None))
