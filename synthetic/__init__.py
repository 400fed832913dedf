"""Synthetic worlds with exact truth: tasks, concepts, requests and a judge. Needs numpy only."""

from synthetic.composition import WITHOUT_SYSTEM_SUFFIX, CompositionWorld
from synthetic.config import CompositionConfig
from synthetic.formats import FormatsConfig, FormatsWorld
from synthetic.presets import COMPOSITION_CONFIGS, FORMATS_CONFIGS, load
from synthetic.templates import TEMPLATES, family_in_template
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
    "FormatsConfig",
    "FormatsWorld",
    "Outcome",
    "Requests",
    "Vocabulary",
    "World",
    "family_in_template",
    "load",
]
