"""What is a model asked? Token batches with explicit masks and named spans."""

from makebreak.requests.examples import (
    FORMATS,
    TEMPLATES,
    Example,
    asked_in,
    format_families,
    refusal,
    task_items,
    training_prompts,
)
from makebreak.requests.sequences import Sequences, begun, between, positions, sampled, sequences, targeted
from makebreak.requests.text import (
    OPENERS,
    TextRequests,
    opening_tokens,
    read_examples,
    read_prompts,
    read_targeted,
    shipped,
    text_requests,
)
from makebreak.requests.textworld import TextWorld
from synthetic import OUTCOMES, Requests, World
from synthetic import load as load_world

__all__ = [
    "FORMATS",
    "OPENERS",
    "OUTCOMES",
    "TEMPLATES",
    "Example",
    "Requests",
    "Sequences",
    "TextRequests",
    "TextWorld",
    "World",
    "asked_in",
    "begun",
    "between",
    "format_families",
    "load_world",
    "opening_tokens",
    "positions",
    "read_examples",
    "read_prompts",
    "read_targeted",
    "refusal",
    "sampled",
    "sequences",
    "shipped",
    "targeted",
    "task_items",
    "text_requests",
    "training_prompts",
]
