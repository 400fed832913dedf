"""Loading and checking of language models from a folder, a GGUF file or the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.hub import cached_file

from makebreak.architectures import check_architecture
from makebreak.errors import InvalidInput, name_errors, silence_loggers
from makebreak.model_sources import is_asked_for, locate_model, name_both_readings, reach_hub
from makebreak.models.adapter_folder import base_of_adapter, is_adapter, merge_adapter_folder
from makebreak.models.batch_limit import batch_tokens, limit_batches
from makebreak.models.config_checks import check_config, read_settings
from makebreak.models.devices import DTYPES, choose_placement
from makebreak.models.gguf_file import dequantise
from makebreak.models.loaded_model import (
    attention_of,
    check_finite,
    check_in_memory,
    check_loaded,
    n_parameters,
)
from makebreak.models.multimodal import text_model
from makebreak.models.remote_code import check_no_auto_map, check_no_remote_code
from makebreak.models.supported import check_supported
from makebreak.models.tokenizer import check_vocabulary, open_tokenizer
from makebreak.models.weight_files import weight_files
from makebreak.prompts import stop_tokens
from makebreak.settings import LoadSettings
from makebreak.store import Store, check_copy

_REMEDY = "expected a model that transformers can load; download it again, or correct its config.json"


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
    stop_strings: tuple[str, ...] = ()
    """Texts that end an answer, as the generation config names them."""

    @cached_property
    def stop_tokens(self) -> int | list[int] | None:
        """Ids of the tokens that end an answer; see `makebreak.prompts.stop_tokens`."""
        end_of_text = getattr(self.model.generation_config, "eos_token_id", None)
        return stop_tokens(self.tokenizer, end_of_text, self.stop_strings)

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
        batches = f"at most {batch_tokens(self.model):,} tokens per forward pass"
        rounding = (
            "" if self.model.dtype.itemsize > 2 else ", whose composition can change answers in 16 bits"
        )
        return f"{dtype} on {', '.join(devices)}, {batches}{rounding}"


@silence_loggers("transformers")  # what it warns of is an error of this project, or harmless
def open_model(name: str | Path, *, store: Store, loading: LoadSettings | None = None) -> LanguageModel:
    """Opens a folder, a GGUF file or a hub id; only the last uses the network, and no code is run.

    A folder of a store, or a copy of one under any name, is compared with its record first. A LoRA adapter is
    merged into its base model in memory.

    Args:
        name: A folder, a .gguf file (which is dequantised once, into the store) or a hub id `owner/name`.
        store: Where dequantised models are kept.
        loading: Device and data type, as for `choose_placement`, and the base model of an adapter; None for
            the defaults. The tokens of a forward pass are chosen by `limit_batches`.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        DamagedArtifact: If the folder has a record, and its files are not what that says.
        ValueError: If there is no such model, it is no causal language model, it has `auto_map`, its
            tokenizer differs from its `tokenizer.json`, it does not fit into memory, or there is no such
            device.
    """
    loading = loading or LoadSettings()
    path, is_local = locate_model(name)
    if is_local and is_adapter(path):
        return _open_adapter(path, store, loading)
    if path.suffix == ".gguf" and path.is_file():
        path = dequantise(path, store)
    if is_local:
        check_copy(path)
        check_no_remote_code(path)
    source = str(path) if is_local else str(name)
    config = _config(source, is_local)
    with name_errors(name, "its config describes no model", _REMEDY):
        n_weights = n_parameters(config)
    device, dtype = choose_placement(str(name), n_weights, config.dtype, loading)
    tokenizer = open_tokenizer(source, offline=is_local)
    generation_config, stop_strings = _generation_config(source, is_local, config)
    options: dict[str, Any] = {
        "config": config,
        "generation_config": generation_config,
        "dtype": DTYPES[dtype],
        "local_files_only": is_local,
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # which the report lists
    }
    model: Any = None
    with name_errors(name, *_loading_problem(config)):
        for device_map in ("meta", loading.device_map):  # the first compares names and shapes only
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, device_map=device_map, trust_remote_code=False, **options
            )
            model, report = loaded
            check_loaded(str(name), report, model)
        model = text_model(model)
        if loading.device_map is None:
            model.to(device)
    check_in_memory(str(name), model)
    check_vocabulary(str(name), tokenizer, model)
    check_finite(str(name), model.eval())
    check_architecture(model)
    limit_batches(model)
    return LanguageModel(str(name), model, tokenizer, replace(loading, dtype=dtype), stop_strings)


def _loading_problem(config: Any) -> tuple[str, str]:
    """What is wrong where weights cannot be loaded, and what was expected."""
    quantisation: Any = getattr(config, "quantization_config", None)
    if not quantisation:
        return "its weights cannot be loaded", _REMEDY
    is_dict = isinstance(quantisation, dict)
    method = quantisation.get("quant_method") if is_dict else getattr(quantisation, "quant_method", None)
    problem = f"its weights are quantised ({method or 'by an unknown method'}) and cannot be loaded here"
    return problem, "expected the model before it was quantised, with weights in floating point"


def _open_adapter(folder: Path, store: Store, loading: LoadSettings) -> LanguageModel:
    """The base model of an adapter with the adapter merged, and the adapter's tokenizer if it has one."""
    name = loading.base_model or base_of_adapter(folder)
    if Path(name).is_dir() and is_adapter(Path(name)):
        raise InvalidInput(f"{name} is an adapter itself: expected the whole model that {folder} belongs to")
    lm = open_model(name, store=store, loading=loading)
    model = merge_adapter_folder(lm.model, folder).eval()
    has_tokenizer = (folder / "tokenizer.json").is_file()
    tokenizer = open_tokenizer(str(folder)) if has_tokenizer else lm.tokenizer
    check_vocabulary(str(folder), tokenizer, model)
    check_finite(str(folder), model)
    return LanguageModel(str(folder), model, tokenizer, lm.loading, lm.stop_strings)


def _config(source: str, offline: bool) -> Any:
    """The config of a causal language model, with an implementation of attention that we choose.

    Sizes are checked before transformers reads them, with those of the weights if these are here.
    """
    folder = Path(source)
    if offline and not (folder / "config.json").is_file():
        raise InvalidInput(f"{source} has no config.json: expected a Hugging Face folder of a language model")
    if not offline:
        with name_both_readings(source):
            reach_hub(source)
            cached_file(source, "config.json", local_files_only=not is_asked_for(source))
    remedy = "expected the config.json of a causal language model that transformers knows"
    with name_errors(source, "no config could be read", remedy):
        path = Path(str(cached_file(source, "config.json", local_files_only=offline)))
        settings = read_settings(path)
        check_no_auto_map(settings, path)
        is_quantised = bool(settings.get("quantization_config"))
        check_config(settings, path, weight_files(folder, is_quantised=is_quantised) if offline else None)
        config = AutoConfig.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    check_supported(source, config)
    attention_of(config)
    return config


def _generation_config(source: str, offline: bool, config: Any) -> tuple[GenerationConfig, tuple[str, ...]]:
    """Plain greedy generation with the ids of special tokens, and the texts that end an answer.

    Nothing else is taken from files. The texts are apart, since the criterion of transformers for them does
    not know every kind of tokenizer.
    """
    ids = {name: getattr(config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    strings: Any = []
    with name_errors(source, "its generation_config.json cannot be used", "correct it, or delete it"):
        path = cached_file(
            source,
            "generation_config.json",
            local_files_only=offline,
            _raise_exceptions_for_missing_entries=False,
        )
        if path is not None:
            settings = read_settings(Path(path))
            ids = {name: settings.get(name) for name in ids}
            strings = settings.get("stop_strings") or []
            strings = [strings] if isinstance(strings, str) else strings
            if not (isinstance(strings, list) and all(isinstance(text, str) and text for text in strings)):
                raise InvalidInput(f"{path}: stop_strings = {strings!r}: expected texts")
    for name, value in ids.items():
        each = value if name == "eos_token_id" and isinstance(value, list) and value else [value]
        if value is not None and not all(type(part) is int and 0 <= part < 2**31 for part in each):
            raise InvalidInput(
                f"{source}: {name} = {value!r}: expected the id of a token, in generation_config.json or "
                "config.json"
            )
    return GenerationConfig(**ids), tuple(strings)
