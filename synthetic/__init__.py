"""Synthetic worlds with exact truth: tasks, concepts, requests and a judge. Needs numpy only."""

from synthetic.composition import WITHOUT_SYSTEM_SUFFIX, CompositionConfig, CompositionWorld
from synthetic.families import Family
from synthetic.formats import TEMPLATES, FormatsConfig, FormatsWorld
from synthetic.presets import COMPOSITION_CONFIGS, FORMATS_CONFIGS, load
from synthetic.types import OUTCOMES, Outcome, Requests, World
from synthetic.vocabulary import Vocabulary

__all__ = [
    "COMPOSITION_CONFIGS",
    "FORMATS_CONFIGS",
    "OUTCOMES",
    "TEMPLATES",
    "WITHOUT_SYSTEM_SUFFIX",
    "CompositionConfig",
    "CompositionWorld",
    "Family",
    "FormatsConfig",
    "FormatsWorld",
    "Outcome",
    "Requests",
    "Vocabulary",
    "World",
    "load",
]
