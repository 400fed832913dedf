"""Loading and checking of language models from a folder, a GGUF file or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from makebreak.architectures import check_architecture
from makebreak.models.batch_limit import batch_tokens, limit_batches
from makebreak.models.devices import CPU, DTYPES, check_free_memory, choose_placement
from makebreak.models.remote_code import check_no_remote_code
from makebreak.settings import LoadSettings
from makebreak.store import Store

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_PROBE = "Is this 1 sentence, read by both?"
"""A text that a tokenizer and its `tokenizer.json` must encode alike."""
_N_PROBE_TOKENS = 16
"""Number of first tokens of a vocabulary that both must encode alike."""
_ERROR_LENGTH = 200
"""Characters of another library's error that are shown."""


@dataclass(frozen=True)
class LanguageModel:
    """A language model with its tokenizer."""

    name: str
    """The folder, file or hub id that it was opened by."""
    model: PreTrainedModel
    """The network, in evaluation mode."""
    tokenizer: PreTrainedTokenizerFast
    """The tokenizer, with its chat template if there is one."""
    loading: LoadSettings = field(default_factory=LoadSettings)
    """Device and data type with which models that are made from this one are opened."""

    @property
    def description(self) -> str:
        """One line: name, architecture, size, data type, device and batch size."""
        config, millions = self.model.config, self.model.num_parameters() / 1e6
        size = f"{config.num_hidden_layers} layers, d_model {config.hidden_size}, {millions:.0f} M parameters"
        return f"{self.name}: {config.model_type}, {size}, {self.placement}"

    @property
    def placement(self) -> str:
        """Data type, device, and most tokens of a forward pass."""
        devices = sorted({str(parameter.device) for parameter in self.model.parameters()})
        dtype = str(self.model.dtype).removeprefix("torch.")
        return (
            f"{dtype} on {', '.join(devices)}, at most {batch_tokens(self.model):,} tokens per forward pass"
        )


def open_model(name: str | Path, *, store: Store, loading: LoadSettings | None = None) -> LanguageModel:
    """Opens a folder, a GGUF file or a hub id; only the last uses the network, and no code is run.

    Args:
        name: A folder, a .gguf file (which is dequantised once, into the store) or a hub id `owner/name`.
        store: Where dequantised models are kept.
        loading: Device and data type, as for `choose_placement`; None for the defaults. The tokens of a
            forward pass are chosen by `limit_batches`.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        ValueError: If there is no such model, it is no causal language model, it has `auto_map`, its
            tokenizer differs from its `tokenizer.json`, it does not fit into memory, or there is no such
            device.
    """
    loading = loading or LoadSettings()
    path, is_local = _locate(name)
    if path.suffix == ".gguf":
        path = _dequantised(path, store)
    if is_local:
        check_no_remote_code(path)
    source = str(path) if is_local else str(name)
    config = _config(source, is_local)
    device, dtype = choose_placement(str(name), n_parameters(config), config.dtype, loading)
    tokenizer = open_tokenizer(source, offline=is_local)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES[dtype],
            device_map=loading.device_map,
            local_files_only=is_local,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: its weights cannot be loaded ({_one_line(error)})") from None
    check_architecture(model)
    if loading.device_map is None:
        model.to(device)  # type: ignore[arg-type]
    limit_batches(model.eval())
    return LanguageModel(str(name), model, tokenizer, replace(loading, dtype=dtype))


def model_digest(lm: LanguageModel) -> str:
    """SHA-256 of what decides a model's results, for their keys.

    These are the chat template, the names and the values of all weights in their data type, and the kind of
    device unless it is the CPU.
    """
    digest = hashlib.sha256(str(lm.tokenizer.chat_template).encode())
    if lm.model.device != CPU:
        digest.update(lm.model.device.type.encode())
    for name, tensor in sorted(lm.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def n_parameters(config: Any) -> int:
    """Number of parameters of the model that a config describes, without creating it, tied ones once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def open_tokenizer(source: str, *, offline: bool = True) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model, checked against its `tokenizer.json`.

    Args:
        source: A folder or a hub id.
        offline: Whether only local files are read.

    Returns:
        The tokenizer that transformers chooses.

    Raises:
        ValueError: If there is none, it has `auto_map`, it is not a fast one, or it encodes text differently
            from `tokenizer.json`.
    """
    if offline:
        check_no_remote_code(Path(source))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{source}: no tokenizer ({_one_line(error)}); expected tokenizer.json beside the weights"
        ) from None
    kind = type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise ValueError(f"{source}: {kind} has no offsets; expected a fast tokenizer, with tokenizer.json")
    file = Path(source) / "tokenizer.json"
    if file.is_file() and not _encode_alike(tokenizer, Tokenizer.from_file(str(file))):
        raise ValueError(
            f"{source}: its tokenizer is loaded as {kind}, which encodes text unlike tokenizer.json; "
            "name the right tokenizer_class in tokenizer_config.json, and another model_type"
        )
    return tokenizer


def _encode_alike(tokenizer: PreTrainedTokenizerFast, reference: Tokenizer) -> bool:
    """Whether two tokenizers encode a sentence, and the first tokens of the vocabulary, alike."""
    first_ids = list(range(min(_N_PROBE_TOKENS, reference.get_vocab_size())))
    for text in (_PROBE, reference.decode(first_ids, skip_special_tokens=False)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if reference.encode(text, add_special_tokens=False).ids != ids:
            return False
    return True


def _locate(name: str | Path) -> tuple[Path, bool]:
    """The path of a model, and whether it is a local one rather than a hub id."""
    path = Path(name)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path, True
    if path.is_file():
        raise ValueError(f"{name} is a file, but no .gguf: expected a folder, a GGUF file or a hub id")
    if _HUB_ID.fullmatch(str(name)):
        return path, False
    raise ValueError(f"{name} does not exist: expected a folder, a GGUF file or a hub id (owner/name)")


def _config(source: str, offline: bool) -> Any:
    """The config of a causal language model."""
    if offline and not (Path(source) / "config.json").is_file():
        raise ValueError(f"{source} has no config.json: expected a Hugging Face folder of a language model")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{source}: no config could be read ({_one_line(error)})") from None
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(f"{source}: {config.model_type!r} is no causal language model")
    return config


def _dequantised(file: Path, store: Store) -> Path:
    """Folder of the plain weights of a GGUF file: transformers cannot save what it loads from one."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def make(folder: Path) -> None:
        options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
        try:
            config = AutoConfig.from_pretrained(file.parent, trust_remote_code=False, **options)
            check_free_memory(str(file), 2 * n_parameters(config) * 4, "to be dequantised once")
            tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **options)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.float32, trust_remote_code=False, **options
            )
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{file}: no model could be read from it ({_one_line(error)})") from None
        vars(model.config).pop("quantization_config", None)
        plain = type(model)(model.config)
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        settings = folder / "tokenizer_config.json"
        settings.write_text(
            json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"})
        )

    return store.build("dequantised", revision=1, config={"file": file.name, "sha256": digest}, make=make)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_ERROR_LENGTH]
