"""Descriptions of model architectures, one file per family, under the names of TransformerLens."""

from makebreak.architectures.base import Architecture, Side, UnknownArchitecture, head_size
from makebreak.architectures.check import check_architecture
from makebreak.architectures.registry import architecture_of, register, registered_architectures

__all__ = [
    "Architecture",
    "Side",
    "UnknownArchitecture",
    "architecture_of",
    "check_architecture",
    "head_size",
    "register",
    "registered_architectures",
]
