"""GGUF files: checks of their header, and their weights as a folder of safetensors."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.integrations.gguf.reader import read_gguf_metadata

from makebreak.errors import InvalidInput, name_errors, silence_loggers, silence_native_code
from makebreak.models.config_checks import WeightFiles, check_config
from makebreak.models.devices import check_free_memory
from makebreak.models.folders import PRETRAINED_FILES
from makebreak.models.loaded_model import attention_of, check_loaded, n_parameters
from makebreak.optional_packages import import_optional
from makebreak.store import Store, write_atomic

if TYPE_CHECKING:
    from gguf import GGUFReader

_REMEDY = "expected a whole GGUF file of a language model; download it again, or convert it anew"
_REVISION = 2  # of 1 there may be copies with random weights where the file lacked tensors
_BLOCK = re.compile(r"blk\.(\d+)\.")


def dequantise(file: Path, store: Store) -> Path:
    """Folder of the plain weights of a GGUF file: transformers cannot save what it loads from one.

    Args:
        file: A .gguf file.
        store: Where the folder is kept.

    Returns:
        A Hugging Face folder with float32 weights.

    Raises:
        InvalidInput: If the file is truncated, lacks a tensor that its config implies, has another shape than
            that, or does not fit into memory.
    """
    with name_errors(file, "cannot be read", _REMEDY), file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()

    def make(folder: Path) -> None:
        _write_plain(file, folder)

    config = {"file": file.name, "sha256": digest}
    return store.build("dequantised", revision=_REVISION, config=config, make=make, files=PRETRAINED_FILES)


def _write_plain(file: Path, folder: Path) -> None:
    """Reads a GGUF file, once its header is known to be sound, and writes a folder of plain weights."""
    n_weights = _check_header(file)
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    with name_errors(file, "no model could be read from it", _REMEDY):
        config = AutoConfig.from_pretrained(file.parent, trust_remote_code=False, **options)
        attention_of(config)
        n_expected = n_parameters(config)
    if n_weights < n_expected:
        raise InvalidInput(
            f"{file}: its tensors have {n_weights:,} weights, its config implies {n_expected:,}: tensors are "
            f"missing; {_REMEDY}"
        )
    check_free_memory(str(file), 2 * n_expected * 4, "to be dequantised once")
    with (
        name_errors(file, "no model could be read from it", _REMEDY),
        silence_loggers("transformers"),
        silence_native_code(),
    ):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # which the report lists
            trust_remote_code=False,
            **options,
        )
    model, report = loaded
    check_loaded(str(file), report, model)
    with name_errors(file, f"its plain weights cannot be written to {folder}", "expected free space there"):
        vars(model.config).pop("quantization_config", None)
        plain = type(model)(model.config)
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        settings = folder / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        write_atomic(settings, json.dumps(content | {"tokenizer_class": "PreTrainedTokenizerFast"}))


def _check_header(file: Path) -> int:
    """Number of weights of a GGUF file whose metadata, sizes and tensors' places are sound.

    The first reader compares every length with the file's; the second one alone would believe them.
    """
    gguf = import_optional("gguf", "reading a .gguf file")
    with name_errors(file, "no model could be read from it", _REMEDY):
        metadata, names = read_gguf_metadata(str(file))
        reader = gguf.GGUFReader(file)
        tensors = reader.tensors
        weights = WeightFiles(len(tensors), sum(int(tensor.n_bytes) for tensor in tensors))
        prefix = str(metadata["general.architecture"])
        settings = {
            name: metadata[f"{prefix}.{key}"]
            for name, key in {
                "num_hidden_layers": "block_count",
                "hidden_size": "embedding_length",
                "intermediate_size": "feed_forward_length",
                "num_attention_heads": "attention.head_count",
                "num_key_value_heads": "attention.head_count_kv",
                "max_position_embeddings": "context_length",
                "head_dim": "attention.key_length",
                "rope_theta": "rope.freq_base",
                "rms_norm_eps": "attention.layer_norm_rms_epsilon",
                "layer_norm_eps": "attention.layer_norm_epsilon",
            }.items()
            if f"{prefix}.{key}" in metadata
        }
    _check_places(file, reader)
    if "num_hidden_layers" not in settings:
        raise InvalidInput(f"{file} has no {prefix}.block_count: {_REMEDY}")
    kv_heads = settings.get("num_key_value_heads")
    if isinstance(kv_heads, list):  # of layers without attention it is 0
        settings["num_key_value_heads"] = max(kv_heads, default=0)
    check_config(settings, file, weights)
    blocks = {int(match[1]) for match in map(_BLOCK.match, names) if match}
    if blocks != set(range(settings["num_hidden_layers"])):
        raise InvalidInput(
            f"{file}: block_count = {settings['num_hidden_layers']}, but its tensors are of {len(blocks)} "
            f"blocks: {_REMEDY}"
        )
    return sum(int(tensor.n_elements) for tensor in tensors)


def _check_places(file: Path, reader: GGUFReader) -> None:
    """Raises InvalidInput unless the tensors lie one after the other and fill the file."""
    end = reader.data_offset
    for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
        if tensor.data_offset != end:
            raise InvalidInput(
                f"{file}: {tensor.name} begins at byte {tensor.data_offset:,}, expected {end:,}: {_REMEDY}"
            )
        end += -(-int(tensor.n_bytes) // reader.alignment) * reader.alignment
    size = file.stat().st_size
    if size > end:
        raise InvalidInput(f"{file} has {size:,} bytes, its tensors end at byte {end:,}: {_REMEDY}")
