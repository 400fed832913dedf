"""The architecture of a model: one of makebreak's own, a registered one, or that of an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from torch import nn

from makebreak.architectures.base import Architecture, UnknownArchitecture
from makebreak.architectures.bloom import BLOOM, FALCON
from makebreak.architectures.experts import MIXTRAL, QWEN3_MOE
from makebreak.architectures.gemma import GEMMA, GEMMA2, GEMMA3
from makebreak.architectures.gpt2 import GPT2
from makebreak.architectures.gpt_neox import GPT_NEOX
from makebreak.architectures.gptj import GPTJ
from makebreak.architectures.jain2024 import JAIN2024
from makebreak.architectures.llama import GRANITE, LLAMA, QWEN3
from makebreak.architectures.llama_variants import OLMO2, PHI3, STABLELM, STARCODER2
from makebreak.architectures.opt import OPT
from makebreak.plugins import load_plugin

_LLAMAS = (LLAMA, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI3, OLMO2, GRANITE, STABLELM, STARCODER2)
_OTHERS = (GPT_NEOX, GPTJ, OPT, FALCON, BLOOM, JAIN2024)
_EXPERTS = (MIXTRAL, QWEN3_MOE)
_BUILT_IN = {
    model_type: architecture
    for architecture in (GPT2, *_LLAMAS, *_OTHERS, *_EXPERTS)
    for model_type in architecture.model_types
}
_registered = dict(_BUILT_IN)


def registered_architectures() -> Mapping[str, Architecture]:
    """Architectures by model type, without those of entry points that no model has needed yet."""
    return MappingProxyType(_registered)


def register(architecture: Architecture) -> None:
    """Makes an architecture known, in place of one that was registered for the same model type before.

    Args:
        architecture: The architecture of further model types.

    Raises:
        ValueError: If a model type is one of makebreak's own.
    """
    for model_type in architecture.model_types:
        if model_type in _BUILT_IN:
            raise ValueError(f"model type {model_type!r} is makebreak's own: expected another one")
    _registered.update(dict.fromkeys(architecture.model_types, architecture))


def architecture_of(model: nn.Module) -> Architecture:
    """The architecture of a model, by `config.model_type`.

    Args:
        model: A transformers model.

    Returns:
        The registered architecture, or else that of the entry point of group `makebreak.architectures`
        whose name is the model type, adapted to the config of the model.

    Raises:
        UnknownArchitecture: If there is none, or it does not describe models of this config.
        ValueError: If its entry point cannot be imported or is no `Architecture`.
    """
    config: Any = model.config
    architecture = _of_type(str(config.model_type))
    if architecture.adapt is None:
        return architecture
    try:
        return architecture.adapt(architecture, config)
    except UnknownArchitecture as error:
        raise UnknownArchitecture(f"model type {config.model_type!r} with {error}") from None


def _of_type(model_type: str) -> Architecture:
    """The architecture of a model type."""
    if model_type in _registered:
        return _registered[model_type]
    known = [*_registered, *(entry.name for entry in entry_points(group="makebreak.architectures"))]
    if model_type not in known:
        raise UnknownArchitecture(
            f"model type {model_type!r} has no architecture: expected one of {', '.join(known)}; "
            "describe it with makebreak.architectures.register"
        )
    architecture = load_plugin("architecture", model_type, _registered)
    if not isinstance(architecture, Architecture):
        raise ValueError(f"architecture {model_type!r} is {architecture!r}: expected an Architecture")
    return _registered.setdefault(model_type, architecture)
