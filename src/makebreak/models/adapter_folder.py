"""Folders of LoRA adapters as peft writes them, merged into the weights of their base model in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.errors import InvalidInput, name_errors
from makebreak.models.config_checks import read_settings
from makebreak.models.remote_code import check_no_auto_map
from makebreak.models.weight_files import ADAPTER
from makebreak.models.weights import n_embeddings

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""File of the tensors of an adapter."""
_READ = {"lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "base_model_name_or_path", "peft_type"}
_OF_TRAINING = {
    *("task_type", "auto_mapping", "peft_version", "revision", "inference_mode", "lora_dropout", "bias"),
    *("runtime_config", "megatron_core", "qalora_group_size", "init_lora_weights", "ensure_weight_tying"),
}
"""Settings that the weights of a trained adapter do not depend on."""
_TOLD_BY_TENSORS = {
    *("r", "rank_pattern", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("modules_to_save", "fan_in_fan_out"),
}
"""Settings that say which matrices are adapted, and with which rank; the names and shapes of tensors do."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that train an adapter of changed base weights."""
_PREFIX = "base_model.model."
_LORA = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_\w+(\.weight)?")
_REMEDY = "expected an adapter that peft's save_pretrained wrote; download it again, or merge it yourself"


class _Adapter(NamedTuple):
    """Tensors of an adapter."""

    low_rank: dict[str, Tensor]
    """Factors of updates, by their names in the file."""
    whole: dict[str, Tensor]
    """Weights that replace those of the base, by their names in the base."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def base_of_adapter(folder: Path) -> str:
    """Folder or hub id of the model that an adapter was trained on.

    Args:
        folder: Folder of the adapter.

    Returns:
        What its settings name.

    Raises:
        InvalidInput: If they name nothing, or another adapter. A hub id is taken for a folder that is not
            here: what a file names is not looked up on the hub.
    """
    path = folder / ADAPTER
    name = read_settings(path).get("base_model_name_or_path")
    remedy = "name the base model: --base-model, or makebreak compare BASE ADAPTER"
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput(f"{path} names no base model: {remedy}")
    base = Path(name) if Path(name).is_absolute() or Path(name).is_dir() else folder / name
    with name_errors(path, "base_model_name_or_path is no path", remedy):
        exists = base.is_dir() or base.is_file()
    if not exists:
        raise InvalidInput(f"{folder} is a LoRA adapter of {name[:200]}, which is no folder here: {remedy}")
    return str(base)


def merge_adapter_folder(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Merges an adapter into the weights of its base model.

    Which matrices are adapted, and with which rank, is read off the tensors; patterns in the settings, which
    are regular expressions of an unknown author, are not.

    Args:
        model: The base model, which is changed.
        folder: Folder of the adapter.

    Returns:
        The model with the merged weights, of the same class as the base. Its embeddings have the rows of the
        adapter's if the adapter holds embeddings.

    Raises:
        InvalidInput: If the folder holds no LoRA adapter, one with settings that are not supported, a tensor
            that has no place in the base model or another shape, or a matrix with one factor only.
    """
    settings = _read_settings(folder)
    adapter = _read_tensors(folder)
    _replace_weights(model, adapter.whole, folder)
    if not adapter.low_rank:
        return model
    ranks: dict[str, int] = {}
    modules = dict(model.named_modules())
    for name, tensor in adapter.low_rank.items():
        module = re.sub(_LORA, r"\g<module>", name)
        if module not in modules:
            raise InvalidInput(f"{folder}: {name} has no place in the base model: {_REMEDY}")
        if ".lora_A" in name or ".lora_embedding_A" in name:
            ranks[module] = tensor.shape[0]
    config = LoraConfig(
        r=max(ranks.values(), default=1),
        lora_alpha=settings["lora_alpha"],
        target_modules=sorted(ranks),
        rank_pattern={re.escape(module): rank for module, rank in ranks.items()},
        alpha_pattern=settings.get("alpha_pattern") or {},
        use_rslora=bool(settings.get("use_rslora")),
        use_dora=bool(settings.get("use_dora")),
        fan_in_fan_out=any(type(modules[module]).__name__ == "Conv1D" for module in ranks),
    )
    with name_errors(folder, "its adapter does not fit the base model", _REMEDY):
        with torch.random.fork_rng(devices=[]):
            inject_adapter_in_model(config, model)
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in adapter.low_rank.items()}
        report = set_peft_model_state_dict(model, tensors)
        absent = [name for name in report.missing_keys if ".lora_" in name]
        if absent or report.unexpected_keys:
            raise ValueError(f"{(absent or report.unexpected_keys)[0]} is without its place or its partner")
        return merge_in_place(model)


def merge_in_place(model: PreTrainedModel) -> PreTrainedModel:
    """Merges the adapters of a model into its weights.

    Args:
        model: The model, whose adapted modules are replaced.

    Returns:
        The same model; unchanged if it has no adapters.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in layers:
        module.merge()
        model.set_submodule(name, module.get_base_layer())
    return model


def _read_settings(folder: Path) -> dict[str, Any]:
    """Settings of an adapter, if nothing in them is unsupported."""
    path = folder / ADAPTER
    settings = read_settings(path)
    check_no_auto_map(settings, path)
    if settings.get("peft_type") != "LORA":
        raise InvalidInput(
            f"{path}: peft_type = {settings.get('peft_type')!r}: expected LORA; merge the adapter into its "
            "base model (merge_and_unload of peft) and save that"
        )
    unknown = [
        name for name in settings if name not in _READ | _OF_TRAINING | _TOLD_BY_TENSORS and settings[name]
    ]
    if unknown:
        raise InvalidInput(
            f"{path}: {unknown[0]} is not supported: merge the adapter into its base model "
            "(merge_and_unload of peft) and save that"
        )
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise InvalidInput(
            f"{path}: init_lora_weights = {start[:40]!r} trains an adapter of changed base weights: expected "
            "one of the base's own; convert it (path_initial_model_for_weight_conversion of peft)"
        )
    alphas = {"lora_alpha": settings.get("lora_alpha"), **_pattern(path, settings.get("alpha_pattern"))}
    for name, value in alphas.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidInput(f"{path}: {name} = {str(value)[:40]}: expected a finite number")
    return settings


def _pattern(path: Path, pattern: Any) -> Mapping[str, Any]:
    """Scales by name of module; peft would take the names for regular expressions."""
    pattern = pattern or {}
    if not isinstance(pattern, dict) or not all(re.fullmatch(r"[\w.]+", name) for name in pattern):
        raise InvalidInput(f"{path}: alpha_pattern = {str(pattern)[:40]}: expected numbers by name of module")
    return pattern


def _read_tensors(folder: Path) -> _Adapter:
    """Tensors of an adapter, from its safetensors file only."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise InvalidInput(
            f"{folder} is a LoRA adapter without {ADAPTER_WEIGHTS}: expected safetensors; save it with "
            "save_pretrained (a .bin file is a pickle, which is never opened)"
        )
    with name_errors(path, "cannot be read", _REMEDY):
        tensors = load_file(path)
    if not tensors:
        raise InvalidInput(f"{path} holds no tensor: {_REMEDY}")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise InvalidInput(f"{path}: {name} holds integers, NaN or infinity: {_REMEDY}")
    low_rank = {name: tensor for name, tensor in tensors.items() if _LORA.fullmatch(name)}
    whole = {  # beside an adapter of embeddings, peft saves these as `base_layer`
        name.removeprefix(_PREFIX).replace(".base_layer.", "."): tensor
        for name, tensor in tensors.items()
        if name not in low_rank
    }
    return _Adapter(low_rank, whole)


def _replace_weights(model: PreTrainedModel, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Replaces whole weights of a model, such as embeddings to which tokens were added."""
    embeddings = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    n_rows = {len(tensor) for name, tensor in whole.items() if name in embeddings and tensor.ndim}
    if len(n_rows) > 1:
        raise InvalidInput(f"{folder}: its embeddings have {sorted(n_rows)} rows: expected one number")
    if n_rows and n_rows != {n_embeddings(model)}:
        model.resize_token_embeddings(n_rows.pop(), mean_resizing=False)
    weights = model.state_dict()
    for name, tensor in whole.items():
        if name not in weights or weights[name].shape != tensor.shape:
            there = tuple(weights[name].shape) if name in weights else "none"
            raise InvalidInput(
                f"{folder}: {name} of shape {tuple(tensor.shape)} has no place in the base model, which has "
                f"{there}: name the model that the adapter was trained on"
            )
        with torch.no_grad():
            weights[name].copy_(tensor)
