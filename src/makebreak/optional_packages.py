"""Packages that only some functions need: the extras of makebreak, and the error where one is missing."""

from __future__ import annotations

import importlib
from importlib import metadata
from importlib.util import find_spec
from typing import Any, NamedTuple

from makebreak.errors import InvalidInput, describe_error


class OptionalPackage(NamedTuple):
    """A package of an extra."""

    name: str
    """Name of the package for pip."""
    extra: str
    """The extra of makebreak that installs it."""
    purpose: str
    """What it is needed for."""


OPTIONAL_PACKAGES = {
    "transformer_lens": OptionalPackage("transformer-lens", "interp", "views in TransformerLens"),
    "nnsight": OptionalPackage("nnsight", "interp", "views in nnsight"),
    "gguf": OptionalPackage("gguf", "gguf", "models in .gguf files"),
    "submitit": OptionalPackage("submitit", "slurm", "sweeps over processes and Slurm jobs"),
    "datasets": OptionalPackage("datasets", "hub", "prompts from data sets of the Hugging Face Hub"),
    "pyarrow": OptionalPackage("pyarrow", "zoo", "the table of models in a .parquet file"),
    "inspect_ai": OptionalPackage("inspect-ai", "logs", "evaluation logs of inspect_ai"),
}
"""Optional packages by the name of their module."""


class MissingPackage(InvalidInput, ImportError):
    """An optional package is not installed, or not in a version that makebreak supports."""


def import_optional(module: str, purpose: str) -> Any:
    """Imports a module of an optional package.

    Args:
        module: Name of the module; its first part is one of `OPTIONAL_PACKAGES`.
        purpose: What the module is needed for, as the subject of a sentence.

    Returns:
        The module.

    Raises:
        MissingPackage: If the package is not installed, has a version that makebreak does not support, or
            cannot be imported; the message names the command that installs it.
    """
    check_optional(module, purpose)
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises
        package = OPTIONAL_PACKAGES[module.split(".")[0]]
        raise MissingPackage(
            f"{purpose} needs the package {package.name}, whose import fails ({describe_error(error)}): "
            f"{_remedy(package)}"
        ) from error


def check_optional(module: str, purpose: str) -> None:
    """Checks that an optional package is installed, without importing it.

    Args:
        module: Name of the module; its first part is one of `OPTIONAL_PACKAGES`.
        purpose: What the module is needed for, as the subject of a sentence.

    Raises:
        MissingPackage: If the package is not installed, or has a version that makebreak does not support.
    """
    problem = optional_problem(module)
    if problem is not None:
        raise MissingPackage(f"{purpose} needs the package {problem}")


def optional_problem(module: str) -> str | None:
    """What is wrong with an optional package.

    Args:
        module: Name of the module; its first part is one of `OPTIONAL_PACKAGES`.

    Returns:
        Name of the package and the command that installs it, with the version that is installed if that is
        not supported; None if the package can be used.
    """
    top = module.split(".")[0]
    package = OPTIONAL_PACKAGES[top]
    if find_spec(top) is None:
        return f"{package.name}: {_remedy(package)}"
    version, versions = _version(package.name), _supported_versions(package.name)
    if version is None or versions is None or versions.contains(version, prereleases=True):
        return None
    return f"{package.name}{versions}, but {version} is installed: {_remedy(package)}"


def _remedy(package: OptionalPackage) -> str:
    """The command that installs a package."""
    return f"pip install 'makebreak[{package.extra}]'"


def _version(name: str) -> str | None:
    """Version of an installed package; None where it has no metadata."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _supported_versions(name: str) -> Any:
    """The versions of an optional package that makebreak asks for; None where makebreak is not installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        lines = metadata.requires("makebreak") or []
    except metadata.PackageNotFoundError:
        return None
    requirements = map(Requirement, lines)
    return next((each.specifier for each in requirements if canonicalize_name(each.name) == name), None)
