"""Synthetic worlds with exact truth: tasks, concepts, requests and a judge. Needs numpy only."""

from synthetic.composition import WITHOUT_SYSTEM, CompositionWorld
from synthetic.config import CompositionConfig
from synthetic.formats import FormatsConfig, FormatsWorld
from synthetic.presets import CONFIGS, FORMATS, load
from synthetic.templates import TEMPLATES, in_template
from synthetic.vocabulary import Vocabulary
from synthetic.world import OUTCOMES, Requests, World

__all__ = [
    "CONFIGS",
    "FORMATS",
    "OUTCOMES",
    "TEMPLATES",
    "WITHOUT_SYSTEM",
    "CompositionConfig",
    "CompositionWorld",
    "FormatsConfig",
    "FormatsWorld",
    "Requests",
    "Vocabulary",
    "World",
    "in_template",
    "load",
]
