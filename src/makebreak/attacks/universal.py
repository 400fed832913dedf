"""Universal attacks: one perturbation for all requests, scored on requests that it was not optimised on."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

from makebreak.attacks.result import Attack, AttackResult
from makebreak.evaluation import Target
from makebreak.prompts import Requests


@runtime_checkable
class OptimisedAttack(Attack, Protocol):
    """An attack whose perturbation can be optimised for several requests and applied to others."""

    def optimise(self, target: Target, requests: Requests, *, seed: int, shared: bool = False) -> Any:
        """Optimises a perturbation of each request, or one for all."""
        ...

    def apply(self, target: Target, requests: Requests, perturbation: Any, /) -> AttackResult:
        """Applies a perturbation to requests and returns these with their outcomes."""
        ...


@dataclass(frozen=True)
class Universal:
    """One perturbation for all requests: optimised on every second request, scored on the others."""

    tag: ClassVar[str] = "Universal"
    attack: OptimisedAttack
    """The attack that is made universal."""
    label: str = ""
    """Name in tables; empty for the attack's name with the word universal."""

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        return self.label or f"{self.attack.name} universal"

    @property
    def is_control(self) -> bool:
        """Whether the attack is a control of others."""
        return bool(getattr(self.attack, "is_control", False))

    def __call__(self, target: Target, requests: Requests, *, seed: int, **run: Any) -> AttackResult:
        """Optimises the perturbation on one half and returns the other half with its outcomes.

        Args:
            target: The target that is attacked.
            requests: The requests.
            seed: Seed of the attack.
            **run: `progress` and `folder`, which are passed on if the attack takes them.

        Returns:
            Every second request, from the second on, as attacked.

        Raises:
            ValueError: If there are fewer than two requests.
        """
        if len(requests) < 2:
            raise ValueError(
                f"a universal attack on {len(requests)} requests: expected at least 2, "
                "of which half serve to optimise it"
            )
        train, test = requests[::2], requests[1::2]
        optimised = self.attack.optimise(
            target, train, seed=seed, shared=True, **supported_arguments(self.attack.optimise, run)
        )
        result = self.attack.apply(target, test, optimised, **supported_arguments(self.attack.apply, run))
        return replace(result, name=self.name)


def supported_arguments(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of some keyword arguments that a function has, or all if it takes any."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}
