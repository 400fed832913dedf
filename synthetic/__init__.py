"""Synthetic worlds with exact truth: tasks, concepts, requests and a judge. Needs numpy only."""

from synthetic.composition import WITHOUT_SYSTEM, CompositionWorld
from synthetic.config import CompositionConfig
from synthetic.presets import CONFIGS, load
from synthetic.vocabulary import Vocabulary
from synthetic.world import OUTCOMES, Requests, World

__all__ = [
    "CONFIGS",
    "OUTCOMES",
    "WITHOUT_SYSTEM",
    "CompositionConfig",
    "CompositionWorld",
    "Requests",
    "Vocabulary",
    "World",
    "load",
]
