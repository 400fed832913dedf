"""Revisions of functions whose results are cached; raising one makes the results be computed anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_ATTRIBUTE = "cache_revision"


def cache_revision(revision: int) -> Callable[[Function], Function]:
    """Returns a decorator that gives a function the revision under which its results are cached.

    Args:
        revision: A number that is raised whenever the function, or code that it calls, returns other values
            or other columns for the same arguments.

    Returns:
        The decorator; it changes nothing else.
    """

    def decorate(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, revision)
        return function

    return decorate


def revision_of(function: Callable[..., Any]) -> int:
    """The revision that `cache_revision` gave to a function, to a method or to the function of a partial.

    Args:
        function: The function.

    Returns:
        Its revision.

    Raises:
        TypeError: If it has none.
    """
    while isinstance(function, partial):
        function = function.func
    revision = getattr(function, _ATTRIBUTE, None)
    if revision is None:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{name} has no revision: decorate a function with @cache_revision(1) to cache its results"
        )
    return revision
