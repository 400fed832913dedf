"""Which networks are looked at? Small Hugging Face causal language models, and one way to their weights."""

from makebreak.models.folders import load, save, tokenizer
from makebreak.models.language import DTYPES, LanguageModel, digest, n_parameters, open_model, open_tokenizer
from makebreak.models.mixing import extrapolated, mixed, part_names, part_of, stitched
from makebreak.models.presets import PRESETS, ModelConfig, create
from makebreak.models.weights import bias, linear, matrix, matrix_names, n_layers

__all__ = [
    "DTYPES",
    "PRESETS",
    "LanguageModel",
    "ModelConfig",
    "bias",
    "create",
    "digest",
    "extrapolated",
    "linear",
    "load",
    "matrix",
    "matrix_names",
    "mixed",
    "n_layers",
    "n_parameters",
    "open_model",
    "open_tokenizer",
    "part_names",
    "part_of",
    "save",
    "stitched",
    "tokenizer",
]
