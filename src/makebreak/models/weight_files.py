"""The safetensors files of a model folder: inside the folder, and whole by their headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from makebreak.errors import InvalidInput, name_errors
from makebreak.models.config_checks import WeightFiles, read_settings

WEIGHTS = "model.safetensors"
"""File of the weights within a model folder."""
INDEX = "model.safetensors.index.json"
"""File that says in which of several files each tensor is."""
ADAPTER = "adapter_config.json"
"""File of a LoRA adapter."""
_REMEDY = "expected a whole safetensors file; download it again"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


def weight_files(folder: Path, *, is_quantised: bool = False) -> WeightFiles:
    """Checks the files of a model's weights by their headers; no weight is read.

    Args:
        folder: A Hugging Face folder.
        is_quantised: Whether its config says that weights are packed into integers.

    Returns:
        What the files hold.

    Raises:
        InvalidInput: If the weights are no safetensors, a file is missing, truncated or outside of the
            folder, a tensor is not in the file that the index names, a weight is of integers, which
            transformers would convert to floating-point numbers without their scale, or the folder holds an
            adapter beside the model.
    """
    if (folder / ADAPTER).exists():
        raise InvalidInput(
            f"{folder} holds a whole model (config.json) and a LoRA adapter ({ADAPTER}): expected one of the "
            "two; move the other elsewhere"
        )
    if (folder / WEIGHTS).is_file():
        names = {WEIGHTS: None}
    elif (folder / INDEX).is_file():
        names = _indexed_names(folder)
    else:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        instead = f"only {others[0]}, a pickle, which is never opened" if others else "none"
        raise InvalidInput(
            f"{folder}: no weights ({WEIGHTS} or {INDEX}): expected safetensors, found {instead}; save the "
            "model with save_pretrained"
        )
    n_tensors = n_bytes = 0
    for name, expected in names.items():
        header = _header(folder / name)
        missing = sorted((expected or set()) - header.keys())
        if missing:
            raise InvalidInput(f"{folder / name} lacks {missing[0]!r}, which {INDEX} names: {_REMEDY}")
        if not is_quantised:
            _check_numbers(folder / name, header)
        n_tensors += len(header)
        n_bytes += sum(end - begin for begin, end in (entry["data_offsets"] for entry in header.values()))
    if not n_tensors:
        raise InvalidInput(f"{folder}: the weights hold no tensor: {_REMEDY}")
    return WeightFiles(n_tensors, n_bytes)


def _indexed_names(folder: Path) -> dict[str, set[str]]:
    """The tensors of each file that an index names; every file is in the folder itself."""
    path = folder / INDEX
    weight_map = read_settings(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidInput(f"{path} has no weight_map: expected the file of each tensor; download it again")
    names: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name or name == "..":
            raise InvalidInput(f"{path}: {tensor} is in {name!r}: expected the name of a file of the folder")
        names.setdefault(name, set()).add(tensor)
    for name in names:
        if not (folder / name).is_file():
            raise InvalidInput(
                f"{folder / name} is missing: expected a file that {INDEX} names; download it again"
            )
    return names


def _check_numbers(path: Path, header: dict[str, dict[str, Any]]) -> None:
    """Raises InvalidInput for a weight of integers; the masks of old checkpoints have more dimensions."""
    for name, entry in sorted(header.items()):
        is_weight = name.endswith("weight") or (name.endswith("bias") and len(entry["shape"]) == 1)
        if is_weight and not entry["dtype"].startswith(("F", "BF")):
            raise InvalidInput(
                f"{path}: {name} holds numbers of type {entry['dtype']}, and config.json has no "
                "quantization_config: expected floating-point numbers; save the model with save_pretrained"
            )


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Names of the tensors of a safetensors file, with their type, shape and place."""
    with name_errors(path, "cannot be read", _REMEDY):
        with safe_open(path, framework="pt") as tensors:  # compares offsets and sizes with those of the file
            names = set(tensors.keys())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        return {name: header[name] for name in names}
