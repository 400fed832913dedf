"""Decorators that make a measure, an attack, an objective or a mitigation of a function or a class."""

from __future__ import annotations

import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from makebreak.attacks import ATTACKS, AttackResult, score_attack
from makebreak.defences import MITIGATIONS, Mitigation
from makebreak.evaluation import Target
from makebreak.model_zoo import FamilyMeasure, Measurement, SafetyMeasure, Subject
from makebreak.plugins import register_plugin
from makebreak.prompts import Requests
from makebreak.training import OBJECTIVES, Objective

_NAME = re.compile(r"\w[\w .-]*")
_BUILT_IN = {SafetyMeasure.name, FamilyMeasure.name}
Value = float | None | dict[str, float | None] | Measurement
"""What the function of a measure returns: one number, numbers by column, or a `Measurement` with tables."""
AnyObjective = TypeVar("AnyObjective", bound=type[Objective])


@dataclass(frozen=True)
class FunctionMeasure:
    """A measure that is a function of a subject; `measure` makes one."""

    name: str
    """Name of the measure in the store, and of its column if it is one number."""
    revision: int
    """Number that is raised when the same model would get another value."""
    source: str
    """Digest of the function's source and of the plain values that it encloses; what it takes from modules is
    not part of it."""

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        value = self.function(subject)
        if isinstance(value, Measurement):
            return value
        columns = value if isinstance(value, dict) else {self.name: value}
        return Measurement({name: self._number(name, each) for name, each in columns.items()})

    def _number(self, column: str, value: Any) -> float | None:
        """A value as a number that JSON can hold; None where it is undefined."""
        if value is None:
            return None
        if isinstance(value, str | bool) or not hasattr(value, "__float__"):
            raise TypeError(f"measure {self.name!r} gave {value!r} as {column!r}: expected a number or None")
        return float(value) if isfinite(float(value)) else None

    @staticmethod
    def function(subject: Subject) -> Value:
        """The function; `measure` puts the user's in its place."""
        raise NotImplementedError


@dataclass(frozen=True)
class FunctionAttack:
    """An attack that is a function of a target and requests; `attack_method` makes one."""

    name: str
    """Name of the attack in tables."""
    source: str
    """Digest of the function's source."""
    is_control: bool = False
    """Whether it is a control of other attacks."""

    def __call__(self, target: Target, requests: Requests, *, seed: int) -> AttackResult:
        """Attacks requests and returns them with their outcomes."""
        attacked = self.function(target, requests, seed=seed)
        if not isinstance(attacked, Requests) or len(attacked) != len(requests):
            n = len(attacked) if isinstance(attacked, Requests) else type(attacked).__name__
            raise TypeError(f"attack {self.name!r} returned {n}: expected {len(requests)} requests")
        return score_attack(self.name, target, attacked)

    @staticmethod
    def function(target: Target, requests: Requests, *, seed: int) -> Requests:
        """The function; `attack_method` puts the user's in its place."""
        raise NotImplementedError


def measure(name: str, *, revision: int = 1) -> Callable[[Callable[[Subject], Value]], FunctionMeasure]:
    """Makes a measure of a function, for `makebreak.score` and `makebreak.model_zoo.measure`.

    Args:
        name: Name of the measure, and of its column if the function returns one number.
        revision: To be raised when the same model would get another value; a change of the function itself is
            noticed.

    Returns:
        A decorator of a function of a `Subject`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"measure {name!r}: expected a name of letters, digits, spaces, points and hyphens, as in "
            '@makebreak.measure("stable_rank")'
        )
    if name in _BUILT_IN:
        raise ValueError(f"measure {name!r} is one of makebreak: choose another name")

    def decorate(function: Callable[[Subject], Value]) -> FunctionMeasure:
        return _with_function(FunctionMeasure, function)(name, revision, _digest(function))

    return decorate


def attack_method(
    name: str, *, is_control: bool = False
) -> Callable[[Callable[..., Requests]], FunctionAttack]:
    """Makes an attack of a function, for `makebreak.attack` by its name or as it is.

    Args:
        name: Name of the attack, which is none of makebreak's.
        is_control: Whether it is a control of other attacks, such as random tokens.

    Returns:
        A decorator of a function `f(target, requests, *, seed)` that returns the changed requests.
    """

    def decorate(function: Callable[..., Requests]) -> FunctionAttack:
        attack = _with_function(FunctionAttack, function)(name, _digest(function), is_control)
        register_plugin("attack", name, attack, ATTACKS)
        return attack

    return decorate


def objective(name: str) -> Callable[[AnyObjective], AnyObjective]:
    """Gives an objective a name for `makebreak.align`.

    Args:
        name: The name, which is none of makebreak's.

    Returns:
        A decorator of a subclass of `makebreak.training.Objective`, a frozen dataclass in a file.
    """

    def decorate(cls: AnyObjective) -> AnyObjective:
        register_plugin("objective", name, cls(), OBJECTIVES)
        return cls

    return decorate


def mitigation(name: str) -> Callable[[Mitigation], Mitigation]:
    """Gives a mitigation a name for `makebreak.fine_tune`.

    Args:
        name: The name, which is none of makebreak's.

    Returns:
        A decorator of a function of `SafetyData` and the user's requests, in a file.
    """

    def decorate(function: Mitigation) -> Mitigation:
        register_plugin("mitigation", name, function, MITIGATIONS)
        return function

    return decorate


def _with_function(cls: type[Any], function: Callable[..., Any]) -> type[Any]:
    """A subclass whose function is the user's, with the same name in keys."""
    members = {"function": staticmethod(function), "__module__": cls.__module__, "__doc__": function.__doc__}
    return type(cls.__name__, (cls,), members)


def _digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the source of a function; raises ValueError where there is none."""
    try:
        source = textwrap.dedent(inspect.getsource(function)) + _enclosed_values(function)
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {function!r} cannot be read: define it in a file or in a notebook's cell"
        ) from None
    return hashlib.sha256(source.encode()).hexdigest()


def _enclosed_values(function: Callable[..., Any]) -> str:
    """Defaults and enclosed values of a function that are plain, as text."""
    enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [*(function.__defaults__ or ()), *enclosed]
    return repr([value for value in values if isinstance(value, str | int | float | tuple | None)])
