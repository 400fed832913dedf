"""How does somebody else's language model come in? From a folder, a GGUF file or a hub id, and checked."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from makebreak.artifacts import Store
from makebreak.models.remote_code import check_no_remote_code

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_SPARE = 1.2  # of the weights: activations, and what loading holds for a moment
_PROBE = "Is this 1 sentence, read by both?"


@dataclass(frozen=True)
class LanguageModel:
    """name: as it was asked for. The model is in evaluation mode; the tokenizer knows its chat template, if there is
    one."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


def open_model(
    name: str | Path, *, store: Store, dtype: str = "float32", device_map: str | None = None
) -> LanguageModel:
    """A folder, a GGUF file (dequantised once into the store) or a hub id; only the last asks the network.

    dtype: one of `DTYPES`. device_map: where layers go, as accelerate has it; the CPU where None. Raises ValueError
    where there is no such thing, it is no causal language model, its tokenizer comes back as another one, or it does
    not fit into memory.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    source, offline = _source(name)
    if source.suffix == ".gguf":
        source = _dequantised(source, store)
    if offline:
        check_no_remote_code(source)
    at = str(source) if offline else str(name)
    config = _config(at, offline)
    needed = n_parameters(config) * DTYPES[dtype].itemsize
    if device_map is None:
        _check_memory(str(name), needed, dtype)
    tokenizer = open_tokenizer(at, offline=offline)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            at,
            dtype=DTYPES[dtype],
            device_map=device_map,
            local_files_only=offline,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: its weights cannot be loaded ({_line(error)})") from None
    return LanguageModel(str(name), model.eval(), tokenizer)


def digest(found: LanguageModel) -> str:
    """SHA-256 of the weights, of the names of their tensors and of the chat template."""
    whole = hashlib.sha256(str(found.tokenizer.chat_template).encode())
    for name, tensor in sorted(found.model.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()


def n_parameters(config: Any) -> int:
    """Parameters of the model that a config describes, without making it; tied ones count once."""
    with torch.device("meta"):
        return sum(
            p.numel() for p in AutoModelForCausalLM.from_config(config, trust_remote_code=False).parameters()
        )


def open_tokenizer(at: str, *, offline: bool = True) -> PreTrainedTokenizerFast:
    """Raises ValueError where there is none, or where what comes back does not read text as `tokenizer.json` does."""
    if offline:
        check_no_remote_code(Path(at))
    try:
        found = AutoTokenizer.from_pretrained(at, local_files_only=offline, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{at}: no tokenizer ({_line(error)}); expected tokenizer.json beside the weights"
        ) from None
    if not found.is_fast:
        raise ValueError(
            f"{at}: {type(found).__name__} has no offsets; expected a fast tokenizer, with tokenizer.json"
        )
    file = Path(at) / "tokenizer.json"
    if file.is_file():
        own = Tokenizer.from_file(str(file))
        words = own.decode(list(range(min(16, own.get_vocab_size()))), skip_special_tokens=False)
        for text in (_PROBE, words):
            if (
                own.encode(text, add_special_tokens=False).ids
                != found(text, add_special_tokens=False)["input_ids"]
            ):
                raise ValueError(
                    f"{at}: its tokenizer comes back as {type(found).__name__}, which reads text otherwise than "
                    "tokenizer.json: name the right tokenizer_class in tokenizer_config.json, and another model_type"
                )
    return found


def _source(name: str | Path) -> tuple[Path, bool]:
    """Where it is, and whether that is here."""
    path = Path(name)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path, True
    if path.is_file():
        raise ValueError(f"{name} is a file, but no .gguf: expected a folder, a GGUF file or a hub id")
    if _HUB_ID.fullmatch(str(name)):
        return path, False
    raise ValueError(f"{name} does not exist: expected a folder, a GGUF file or a hub id (owner/name)")


def _config(at: str, offline: bool) -> Any:
    if offline and not (Path(at) / "config.json").is_file():
        raise ValueError(f"{at} has no config.json: expected a Hugging Face folder of a language model")
    try:
        config = AutoConfig.from_pretrained(at, local_files_only=offline, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{at}: no config could be read ({_line(error)})") from None
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(f"{at}: {config.model_type!r} is no causal language model")
    return config


def _check_memory(name: str, needed: int, dtype: str) -> None:
    free = psutil.virtual_memory().available
    if _SPARE * needed > free:
        raise ValueError(
            f"{name} needs about {_SPARE * needed / 2**30:.1f} GiB in {dtype}, {free / 2**30:.1f} are free: "
            "choose --dtype bfloat16, or --device-map auto"
        )


def _dequantised(file: Path, store: Store) -> Path:
    """A folder of plain weights: a model that came from a GGUF file cannot be saved as it is."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def make(folder: Path) -> None:
        where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
        try:
            config = AutoConfig.from_pretrained(file.parent, trust_remote_code=False, **where)
            _check_memory(str(file), 2 * n_parameters(config) * 4, "float32, dequantised once")
            tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **where)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.float32, trust_remote_code=False, **where
            )
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{file}: no model could be read from it ({_line(error)})") from None
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
