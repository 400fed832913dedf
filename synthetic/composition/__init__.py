"""Worlds of Jain et al. (2024): safety is a property of the task *and* the concept of a request."""

from synthetic.composition.config import CompositionConfig
from synthetic.composition.families import WITHOUT_SYSTEM_SUFFIX
from synthetic.composition.world import CompositionWorld

__all__ = ["WITHOUT_SYSTEM_SUFFIX", "CompositionConfig", "CompositionWorld"]
