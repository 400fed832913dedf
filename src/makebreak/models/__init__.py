"""Which networks are looked at? Small Hugging Face causal language models, and one way to their weights."""

from makebreak.models.folders import load, save, tokenizer
from makebreak.models.presets import PRESETS, ModelConfig, create
from makebreak.models.weights import matrix, n_layers

__all__ = ["PRESETS", "ModelConfig", "create", "load", "matrix", "n_layers", "save", "tokenizer"]
