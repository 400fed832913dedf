"""What is a model asked? Token batches with explicit masks and named spans."""

from makebreak.requests.sequences import Sequences, between, positions, sampled, sequences
from synthetic import OUTCOMES, Requests, World
from synthetic import load as load_world

__all__ = ["OUTCOMES", "Requests", "Sequences", "World", "between", "load_world", "positions", "sampled", "sequences"]
