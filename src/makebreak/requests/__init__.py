"""What is a model asked? Token batches with explicit masks and named spans."""

from makebreak.requests.sequences import Sequences, begun, between, positions, sampled, sequences, targeted
from makebreak.requests.text import (
    OPENERS,
    TextRequests,
    opening_tokens,
    read_prompts,
    read_targeted,
    shipped,
    text_requests,
)
from synthetic import OUTCOMES, Requests, World
from synthetic import load as load_world

__all__ = [
    "OPENERS",
    "OUTCOMES",
    "Requests",
    "Sequences",
    "TextRequests",
    "World",
    "begun",
    "between",
    "load_world",
    "opening_tokens",
    "positions",
    "read_prompts",
    "read_targeted",
    "sampled",
    "sequences",
    "shipped",
    "targeted",
    "text_requests",
]
