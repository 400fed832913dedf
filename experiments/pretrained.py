"""The pretrained language model of studies, or a tiny untrained one in its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from makebreak.models import PRETRAINED_FILES, LanguageModel, ModelConfig, create_model, open_model
from makebreak.prompts import evaluation_prompts
from makebreak.store import Store

SMOLLM = "runs/models/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The model of the reported presets, relative to the working directory."""
STAND_IN = "stand-in"
"""Name of a tiny untrained model, which is created in the store when it is needed."""
_STAND_IN_REVISION = 1
_CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
_END_OF_TEXT = "<|end|>"


def model_source(model: str, store: Store) -> str:
    """Path or hub id of a model that `open_model` accepts.

    Args:
        model: A folder, a .gguf file, a hub id, or `STAND_IN`.
        store: Where the stand-in is created.

    Returns:
        The path or hub id.

    Raises:
        ValueError: If the .gguf file does not exist.
    """
    if model == STAND_IN:
        make, files = _write_stand_in, PRETRAINED_FILES
        folder = store.build(STAND_IN, revision=_STAND_IN_REVISION, config={}, make=make, files=files)
        return str(folder)
    if model.endswith(".gguf") and not Path(model).is_file():
        raise ValueError(f"{model} does not exist: fetch it with `make smollm`, or name a model that exists")
    return model


def check_model(preset: object, world: str, store: Store) -> None:
    """Raises ValueError if a preset has a pretrained language model that does not exist."""
    model = getattr(preset, "model", None)
    if isinstance(model, str):  # presets of synthetic worlds have a `ModelConfig` there
        model_source(model, store)


def model_identity(model: str) -> str:
    """Identity of a pretrained model in the keys of results.

    Args:
        model: As `model_source` accepts it.

    Returns:
        SHA-256 of the model's files; the name of a hub id, or of the stand-in with its revision.
    """
    if model == STAND_IN:
        return f"{STAND_IN} {_STAND_IN_REVISION}"
    path = Path(model)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("*.json"))
    if not files:
        return model
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def open_pretrained(model: str, store: Store) -> LanguageModel:
    """Opens the pretrained model.

    Args:
        model: As `model_source` accepts it.
        store: Where a stand-in or a converted model is cached.

    Returns:
        The model and its tokenizer.
    """
    logging.disable_progress_bar()  # bars of loading and saving would hide those of the study
    return open_model(model_source(model, store), store=store)


def _write_stand_in(folder: Path) -> None:
    """Saves a tiny untrained model whose tokenizer reads our prompts byte by byte."""
    pairs = ByteLevelBPETokenizer()
    prompts = [prompt for family in evaluation_prompts().values() for prompt in family]
    pairs.train_from_iterator(prompts, vocab_size=500, special_tokens=[_END_OF_TEXT], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pairs._tokenizer, eos_token=_END_OF_TEXT, pad_token=_END_OF_TEXT
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    config = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    logging.disable_progress_bar()
    create_model(config, d_vocab=len(tokenizer), n_ctx=1024, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
