"""Plug-ins such as objectives, attacks, judges and worlds by name, and digests of their source.

A plug-in is named in one of three ways: by a name that makebreak registers, by the name of an entry point
that an installed package declares (group `makebreak.objectives`, `makebreak.mitigations`,
`makebreak.attacks`, `makebreak.judges`, `makebreak.architectures` or `makebreak.worlds`), or as MODULE:NAME,
an object of an importable module.

Results of others name plug-ins, too. `without_imports` is the context in which their records are read: it
imports nothing, and of MODULE:NAME it accepts what the program has loaded before.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, TypeVar, cast

from makebreak.configs import nearest

T = TypeVar("T")
_loaded: set[tuple[str, str]] = set()  # kinds and names that code or a command line gave
_registered: set[tuple[str, str]] = set()  # kinds and names that a program registered
_imports_nothing: ContextVar[bool] = ContextVar("imports_nothing", default=False)


@contextmanager
def without_imports() -> Iterator[None]:
    """A context in which MODULE:NAME is data of others: only what was loaded or imported before is accepted.

    An objective is accepted if its module is imported, since reading it calls nothing; a world, a mitigation
    or an attack only if `load_plugin` has loaded it outside of this context, since it is called.

    Yields:
        Nothing.
    """
    token = _imports_nothing.set(True)
    try:
        yield
    finally:
        _imports_nothing.reset(token)


def load_plugin(kind: str, name: str, registry: Mapping[str, T]) -> T:
    """The plug-in of a kind and a name.

    Args:
        kind: `objective`, `mitigation`, `attack`, `judge`, `architecture` or `world`; entry points have the
            group `makebreak.KINDs`.
        name: A registered name, the name of an entry point, or MODULE:NAME.
        registry: Plug-ins of makebreak by name; they precede entry points.

    Returns:
        The object of that name, as it is: what a kind accepts is for the caller to check.

    Raises:
        ValueError: If there is none of this name, its module cannot be imported, or it is not accepted (see
            `without_imports`).
    """
    if name in registry:
        return registry[name]
    installed = {entry.name: entry.value for entry in entry_points(group=f"makebreak.{kind}s")}
    address = installed.get(name, name)
    module_name, separator, attribute = address.partition(":")
    if not (module_name and separator and attribute):
        hint = nearest(name, [*registry, *installed])
        raise ValueError(f"{kind} {name!r} does not exist; {hint} (MODULE:NAME loads one of your own)")
    if name not in installed and not _is_accepted(kind, name, module_name):
        raise ValueError(
            f"{kind} {name!r} of a stored result is not imported, since it may be anybody's: load it in "
            f"Python first, or install a package that declares it as an entry point of makebreak.{kind}s"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        remedy = "correct it, or put its folder on PYTHONPATH"
        raise ValueError(
            f"{kind} {name!r}: module {module_name!r} cannot be imported ({reason}); {remedy}"
        ) from error
    if not hasattr(module, attribute):
        objects = {public: value for public, value in vars(module).items() if not public.startswith("_")}
        hint = nearest(attribute, [own for own, value in objects.items() if not inspect.ismodule(value)])
        raise ValueError(f"{kind} {name!r}: module {module_name!r} has no {attribute!r}; {hint}")
    if not _imports_nothing.get():
        _loaded.add((kind, name))
    return getattr(module, attribute)


def register_plugin(kind: str, name: str, definition: T, registry: Mapping[str, T]) -> None:
    """Gives a plug-in of one's own a name in this process.

    Args:
        kind: The kind, as for `load_plugin`.
        name: The name; one of makebreak cannot be taken, one of one's own is replaced.
        definition: The plug-in.
        registry: Plug-ins of the kind by name.

    Raises:
        ValueError: If makebreak has a plug-in of this name.
    """
    if name in registry and (kind, name) not in _registered:
        raise ValueError(f"{kind} {name!r} is one of makebreak: choose another name")
    _registered.add((kind, name))
    cast("dict[str, T]", registry)[name] = definition


def _is_accepted(kind: str, name: str, module_name: str) -> bool:
    """Whether MODULE:NAME may be loaded here (see `without_imports`)."""
    if not _imports_nothing.get() or (kind, name) in _loaded:
        return True
    return kind == "objective" and module_name in sys.modules


def plugin_address(definition: Any) -> str:
    """MODULE:NAME of a class or a function, by which `load_plugin` finds it."""
    return f"{definition.__module__}:{definition.__qualname__}"


def source_digest(definition: Any) -> str:
    """SHA-256 of the source of the module that defines a class or a function.

    It is part of the keys of results that depend on a user's code, so that a changed file gives another
    result. Modules that the file imports are not part of it.

    Args:
        definition: A class or a function.

    Returns:
        The digest in hexadecimal digits.

    Raises:
        ValueError: If the source cannot be read, as that of a class typed into an interpreter.
    """
    try:
        if not (inspect.isclass(definition) or inspect.isfunction(definition)):
            raise TypeError  # the module of a partial function is functools, which would never change
        source = inspect.getsource(inspect.getmodule(definition) or definition)
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {definition!r} cannot be read: define a class or a function in a file"
        ) from None
    return hashlib.sha256(source.encode()).hexdigest()


def is_built_in(cls: type) -> bool:
    """Whether a class is one of makebreak, and not a user's."""
    return cls.__module__.partition(".")[0] == "makebreak"


def outside_bases(cls: type) -> list[type]:
    """A user's class and its bases from outside of makebreak and of Python; none for a class of makebreak."""
    python = sys.stdlib_module_names
    return [c for c in cls.__mro__ if not is_built_in(c) and c.__module__.partition(".")[0] not in python]
