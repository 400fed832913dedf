"""Causal language models in Hugging Face's format: creation, loading, saving, access to weights."""

from makebreak.models.adapter_folder import merge_in_place
from makebreak.models.attention import attention_window, takes_position_ids
from makebreak.models.batch_limit import MAX_BATCH_TOKENS, batch_tokens, halve_batches
from makebreak.models.checkpoints import check_same_shapes, crop_vocabulary
from makebreak.models.context_length import context_length
from makebreak.models.devices import default_device, free_memory
from makebreak.models.digest import model_digest
from makebreak.models.folders import (
    MODEL_FILES,
    PRETRAINED_FILES,
    load_model,
    save_model,
    word_level_tokenizer,
)
from makebreak.models.interpolation import (
    extrapolate_weights,
    interpolate_weights,
    part_names,
    part_of,
    stitch_models,
)
from makebreak.models.language import DTYPES, LanguageModel, open_model
from makebreak.models.loaded_model import n_parameters
from makebreak.models.model_config import MODEL_SIZES, ModelConfig, create_model
from makebreak.models.multimodal import text_model
from makebreak.models.stacking import by_request, member_rows, member_weights, stack_models, stack_size
from makebreak.models.tokenizer import open_tokenizer
from makebreak.models.weights import (
    bias_vector,
    linear_module,
    matrix_names,
    mlp_input_matrices,
    n_embeddings,
    n_layers,
    set_weight_matrix,
    weight_matrix,
)

__all__ = [
    "DTYPES",
    "MAX_BATCH_TOKENS",
    "MODEL_FILES",
    "MODEL_SIZES",
    "PRETRAINED_FILES",
    "LanguageModel",
    "ModelConfig",
    "attention_window",
    "batch_tokens",
    "bias_vector",
    "by_request",
    "check_same_shapes",
    "context_length",
    "create_model",
    "crop_vocabulary",
    "default_device",
    "extrapolate_weights",
    "free_memory",
    "halve_batches",
    "interpolate_weights",
    "linear_module",
    "load_model",
    "matrix_names",
    "member_rows",
    "member_weights",
    "merge_in_place",
    "mlp_input_matrices",
    "model_digest",
    "n_embeddings",
    "n_layers",
    "n_parameters",
    "open_model",
    "open_tokenizer",
    "part_names",
    "part_of",
    "save_model",
    "set_weight_matrix",
    "stack_models",
    "stack_size",
    "stitch_models",
    "takes_position_ids",
    "text_model",
    "weight_matrix",
    "word_level_tokenizer",
]
