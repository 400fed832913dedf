"""Saving and loading of models as Hugging Face folders of safetensors, which other libraries open too."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from makebreak.architectures import check_architecture
from makebreak.errors import InvalidInput, name_errors
from makebreak.models.config_checks import WeightFiles, check_config, read_settings
from makebreak.models.loaded_model import attention_of
from makebreak.models.remote_code import check_no_remote_code
from makebreak.models.weight_files import WEIGHTS
from makebreak.store import check_not_omitted, write_atomic, write_json

MODEL_FILES = r"config\.json|model\.safetensors|(special_tokens_map|tokenizer|tokenizer_config)\.json"
"""Regular expression of the files that `save_model` writes."""
PRETRAINED_FILES = (
    rf"{MODEL_FILES}|(added_tokens|generation_config|tekken|vocab|model\.safetensors\.index)\.json|"
    r"model-\d+-of-\d+\.safetensors|(merges|vocab)\.txt|(tokenizer|spiece|sentencepiece\.bpe)\.model|"
    r"chat_template\.jinja|additional_chat_templates/[^/]+\.jinja"
)
"""Regular expression of the files that transformers writes for a model and its tokenizer."""
_REMEDY = "train it again, or download it again"


def word_level_tokenizer(symbols: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of symbols that are separated by spaces; ids are their positions."""
    words = Tokenizer(WordLevel({s: i for i, s in enumerate(symbols)}, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def save_model(model: PreTrainedModel, folder: Path, symbols: tuple[str, ...]) -> None:
    """Writes config, weights and tokenizer of a model; each file atomically, the weights last.

    Args:
        model: The model.
        folder: Where to write; it is created if it does not exist.
        symbols: The world's symbols, in the order of their ids.

    Raises:
        OSError: If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        word_level_tokenizer(symbols).save_pretrained(folder)
    except Exception as error:  # what the tokenizers library raises on a full disk has no class of its own
        raise OSError(f"{folder}: the tokenizer could not be written ({error})") from None
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    config.pop("_name_or_path", None)  # where it was loaded from: no part of the model
    write_json(folder / "config.json", json.loads(json.dumps(config, default=str)))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(folder / WEIGHTS, save_tensors(tensors, metadata={"format": "pt"}))


def load_model(folder: Path, *, symbols: tuple[str, ...] | None = None) -> PreTrainedModel:
    """The model of a folder, in evaluation mode. The network is never used, and no code of the folder is run.

    Args:
        folder: A folder that `save_model` or transformers wrote.
        symbols: Vocabulary that the model must have; None for any.

    Returns:
        The model in float32.

    Raises:
        ValueError: If the folder is missing or has `auto_map`, its weights are truncated or do not fit its
            config, its vocabulary is another one, or it is not built as its architecture says.
    """
    check_not_omitted(folder / WEIGHTS)
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"checkpoint {folder}: {name} is missing; "
                "expected a folder written by makebreak or transformers"
            )
    check_no_remote_code(folder)
    with name_errors(f"checkpoint {folder}", f"{WEIGHTS} is truncated or no safetensors file", _REMEDY):
        tensors = load_tensors((folder / WEIGHTS).read_bytes())
    if symbols is not None:
        _check_vocabulary(folder, symbols)
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with name_errors(f"checkpoint {folder}", "config.json is unreadable", _REMEDY):
        path = folder / "config.json"
        check_config(read_settings(path), path, WeightFiles(len(tensors), n_bytes))
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        attention_of(config)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InvalidInput(
            f"checkpoint {folder}: weights do not fit the config ({str(error).splitlines()[-1].strip()})"
        ) from None
    check_architecture(model)
    return model.eval()


def _check_vocabulary(folder: Path, symbols: tuple[str, ...]) -> None:
    """Raises ValueError unless the folder's tokenizer has exactly these symbols."""
    with name_errors(f"checkpoint {folder}", "its tokenizer is missing or unreadable", _REMEDY):
        vocabulary = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).get_vocab()
    if vocabulary != {symbol: i for i, symbol in enumerate(symbols)}:
        raise InvalidInput(
            f"checkpoint {folder} has another vocabulary: {len(vocabulary)} symbols, "
            f"expected {len(symbols)} of this world"
        )
