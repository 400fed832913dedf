"""Checks of a model's config before anything is built from it: sizes within bounds, finite constants."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from makebreak.errors import InvalidInput, name_errors

MAX_JSON_BYTES = 32 * 2**20
"""Most bytes of a settings file of a model."""


class WeightFiles(NamedTuple):
    """What the weights of a model take, by their headers."""

    n_tensors: int
    """Number of tensors."""
    n_bytes: int
    """Bytes of all tensors."""


class _Bound(NamedTuple):
    """Values that a size may have."""

    largest: int
    is_optional: bool
    """Whether the size may be null."""


_LAYERS, _WIDTH, _COUNT = 10_000, 2_000_000, 100_000
_SIZES = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), _Bound(_LAYERS, False)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), _Bound(_WIDTH, False)),
    **dict.fromkeys(("intermediate_size",), _Bound(_WIDTH, False)),
    **dict.fromkeys(("n_inner", "head_dim", "ffn_dim"), _Bound(_WIDTH, True)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), _Bound(_COUNT, False)),
    **dict.fromkeys(("num_key_value_heads",), _Bound(_COUNT, True)),
    **dict.fromkeys(("vocab_size",), _Bound(20_000_000, False)),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), _Bound(2**31, False)),
}
"""Sizes that every family has, under the names of the families; some keep a list, one size for each layer."""
_OTHER_SIZE = re.compile(r"(n|num|max)_\w+|\w+_(size|dim|rank|layers|heads|experts)|\w*sizes?")
_LARGEST_COUNTS = {"experts": 10_000, "layers": _LAYERS, "labels": _COUNT}
_LARGEST = 2**31
_POSITIVE = re.compile(r"(\w*_)?(eps|epsilon)|rope_theta|rotary_emb_base|(\w*_)?rope_(local_)?base_freq")
_LIBRARY_CODE = re.compile(r"_?\w*_implementation(_internal)?|kernel_config|fusion_config|use_kernels")


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a settings file of a model.

    Args:
        path: A JSON file.

    Returns:
        Its object.

    Raises:
        InvalidInput: If it is no file, too large, or holds anything but a JSON object.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is missing: expected a file of a Hugging Face model")
    with name_errors(path, "cannot be read", "expected a JSON object in UTF-8; download it again"):
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise InvalidInput(f"{path} has {size:,} bytes: expected settings, at most {MAX_JSON_BYTES:,}")
        settings = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise InvalidInput(f"{path} holds {_short(settings)}: expected a JSON object; download it again")
    return settings


def check_config(settings: Mapping[str, Any], path: Path, weights: WeightFiles | None = None) -> None:
    """Checks sizes and constants of a config, before transformers builds anything from it.

    Args:
        settings: Content of config.json.
        path: The file, for errors.
        weights: Number of tensors and bytes of the weights; None before they are known.

    Raises:
        InvalidInput: If a size is no integer or out of bounds, a constant that must be positive is not, the
            sizes need more tensors or bytes than the files hold, or the config names code of the hub.
    """
    for name, value in nested_items(settings):
        if _LIBRARY_CODE.fullmatch(name) and "/" in json.dumps(value) and "attn" not in name:
            raise InvalidInput(
                f"{path}: {name} = {_short(value)} names code of the hub, which is never loaded; remove it"
            )
        if name in _SIZES:
            _check_size(path, name, value, _SIZES[name])
        elif _OTHER_SIZE.fullmatch(name) and isinstance(value, int | float):
            kinds = [most for kind, most in _LARGEST_COUNTS.items() if name.endswith(kind)]
            _check_number(path, name, value, largest=min(kinds, default=_LARGEST))
        elif _POSITIVE.fullmatch(name) and not _is_positive(value):
            raise InvalidInput(f"{path}: {name} = {_short(value)}: expected a finite number above 0")
    if weights is not None:
        _check_fit(settings, path, weights)


def nested_items(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a settings file and of the objects in it, however deeply they are nested."""
    rest: list[Any] = [settings]
    while rest:
        part = rest.pop()
        if isinstance(part, Mapping):
            yield from part.items()
            rest += part.values()
        elif isinstance(part, list):
            rest += part


def _check_size(path: Path, name: str, value: Any, bound: _Bound) -> None:
    """Raises InvalidInput unless a size, or each of a list of sizes, is an integer within its bound."""
    if value is None and bound.is_optional:
        return
    for size in value if isinstance(value, list) and value else [value]:
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= bound.largest:
            raise InvalidInput(
                f"{path}: {name} = {_short(value)}: expected an integer from 1 to {bound.largest:,}; "
                "correct it, or download the model again"
            )


def _check_number(path: Path, name: str, value: int | float, largest: int) -> None:
    """Raises InvalidInput if a number whose name is that of a size is too large or not a number."""
    if math.isnan(value) or (abs(value) > largest and not math.isinf(value)):
        raise InvalidInput(f"{path}: {name} = {_short(value)}: expected at most {largest:,}")


def _check_fit(settings: Mapping[str, Any], path: Path, weights: WeightFiles) -> None:
    """Raises InvalidInput if the sizes need more than the files hold, counting one bit for each weight."""
    sizes = {name: value for name, value in settings.items() if name in _SIZES and isinstance(value, int)}
    layers = next((value for name, value in sizes.items() if "layer" in name), 0)
    if layers > weights.n_tensors:
        raise InvalidInput(
            f"{path}: {layers:,} layers, but the weights are {weights.n_tensors:,} tensors; expected "
            "at least one for each layer; download the model again"
        )
    width = next((sizes[name] for name in ("hidden_size", "n_embd", "d_model") if name in sizes), 0)
    for name in ("vocab_size", "intermediate_size", "n_inner"):
        needed = width * sizes.get(name, 1)
        if needed > 8 * weights.n_bytes:
            raise InvalidInput(
                f"{path}: {name} and the width need {needed:,} weights, but the files of the weights have "
                f"{weights.n_bytes:,} bytes; correct the config, or download the model again"
            )


def _is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _short(value: Any) -> str:
    """A value as JSON, at most 40 characters of it."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
